#pragma once

#include <vector>

#include "cpu/weights.h"
#include "ops/cpu/matcher.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::cpu {

/// Data that the fast path derives from a compiled plan.
struct PlanData {
  /// \param config  The model's config, with the image size of the model's position embedding.
  PlanData(const CompiledPlan& plan, const Weights& weights, const Config& config);

  /// The position embedding for the plan's image size: [gh * gw, C], or undefined if the model has
  /// none.
  at::Tensor positions;
  /// The rotations of the tokens before any merging, see `write_rotation`: [1, 1, N, D] or
  /// [depth, H, N, D], without values for prefix tokens. Undefined if the model has no rotary
  /// embedding.
  at::Tensor rotations;
  /// The groups to match, by block and merge step.
  std::vector<std::vector<std::vector<MatchGroup>>> groups;
};

}  // namespace dsm_ext::cpu
