#include "aten/rope.h"

#include "ops/rotate.h"

namespace dsm_ext::aten {

Rope::Rope(const Config& config) : halves_(config.rope_rotate_half) {
  if (config.rope_type == RopeType::mixed) {
    own("freqs", {2, config.depth, config.num_heads, config.head_dim() / 2}, freqs_);
  }
}

void Rope::rotate(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& location, const CompiledPlan& plan,
    int64_t block) const {
  dsm_ext::rotate(
      q, k,
      {.location = location,
       .frequencies = freqs_.defined() ? freqs_.select(1, block) : plan.frequencies(),
       .axes = plan.axes(),
       .halves = halves_},
      plan.config().prefix());
}

}  // namespace dsm_ext::aten
