#include "sequence.h"

#include <ATen/Functions.h>

namespace dsm_ext {

at::Tensor Sequence::sizes() const {
  return size.defined()
             ? size
             : at::ones({tokens.size(0), tokens.size(1)}, tokens.options().dtype(at::kFloat));
}

std::optional<at::Tensor> Sequence::bias(bool proportional) const {
  if (!proportional || !size.defined()) {
    return std::nullopt;
  }
  return log_size.view({size.size(0), 1, 1, -1}).narrow(3, 0, size.size(1));
}

void Sequence::mark(Stage stage) const {
  if (watch != nullptr) {
    watch->mark(stage);
  }
  if (interrupt != nullptr) {
    (*interrupt)();
  }
}

void Sequence::begin_part() const {
  if (watch != nullptr) {
    watch->begin_part();
  }
}

}  // namespace dsm_ext
