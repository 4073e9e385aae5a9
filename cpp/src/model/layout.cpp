#include "layout.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor Layout::window_order(at::Device device) const {
  const std::lock_guard lock(mutex_);
  auto& order = orders_[device.str()];
  if (!order.defined()) {
    order = at::tensor(plan_.window_order, at::kInt).to(device);
  }
  return order;
}

}  // namespace dsm_ext
