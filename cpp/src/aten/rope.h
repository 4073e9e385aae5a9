#pragma once

#include "aten/layers.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::aten {

/// The model's rotary position embedding, timm's `rope`.
class Rope : public Parameters {
 public:
  /// Registers the learned frequencies of `RopeType::mixed`.
  explicit Rope(const Config& config);

  /// Turns the queries and keys of a block in place.
  /// \param q, k      As for `dsm_ext::rotate`.
  /// \param location  [B or 1, N, 2].
  void rotate(
      const at::Tensor& q, const at::Tensor& k, const at::Tensor& location,
      const CompiledPlan& plan, int64_t block) const;

 private:
  bool halves_;
  at::Tensor freqs_;  // [2, depth, H, D / 2], or undefined
};

}  // namespace dsm_ext::aten
