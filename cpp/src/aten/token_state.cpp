#include "aten/token_state.h"

#include <ATen/Functions.h>

namespace dsm_ext::aten {

at::Tensor TokenState::sizes() const {
  return size.defined()
             ? size
             : at::ones({tokens.size(0), tokens.size(1)}, tokens.options().dtype(at::kFloat));
}

std::optional<at::Tensor> TokenState::bias(bool proportional) const {
  if (!proportional || !size.defined()) {
    return std::nullopt;
  }
  return log_size.view({size.size(0), 1, 1, -1}).narrow(3, 0, size.size(1));
}

}  // namespace dsm_ext::aten
