#include "layout.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace dsm_ext {

Layout::Layout(const Config& config, Schedule schedule)
    : config_(config), schedule_(std::move(schedule)), plan_(schedule_.plan(config)) {
  for (const auto& block : plan_.blocks) {
    auto& steps = groups_.emplace_back();
    for (const auto& step : block.steps) {
      steps.push_back(
          dsm_ext::match_groups(
              step.tokens_in, step.r, config.prefix(), step.windows,
              step.regroup ? plan_.window_order : std::vector<int32_t>{}));
    }
  }
}

at::Tensor Layout::window_order(at::Device device) const {
  const std::lock_guard lock(mutex_);
  auto& order = orders_[device.str()];
  if (!order.defined()) {
    order = at::tensor(plan_.window_order, at::kInt).to(device);
    for (const auto& stream : streams_) {
      if (stream.device() == order.device()) {
        order.record_stream(stream);
      }
    }
  }
  return order;
}

void Layout::used_on(const c10::Stream& stream) const {
  const std::lock_guard lock(mutex_);
  if (std::find(streams_.begin(), streams_.end(), stream) != streams_.end()) {
    return;
  }
  streams_.push_back(stream);
  for (auto& [device, order] : orders_) {
    if (stream.device() == order.device()) {
      order.record_stream(stream);
    }
  }
}

}  // namespace dsm_ext
