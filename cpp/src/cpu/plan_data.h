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
  /// The rotations of the tokens before any merging, see `Rotation`: [blocks, panels, N, 2 *
  /// kPairs]. Undefined if the model has no rotary embedding, and if the table would be very large.
  at::Tensor rotations;
  /// The groups to match, by block and merge step.
  std::vector<std::vector<std::vector<MatchGroup>>> groups;
};

/// `write_rotation` of a token at a location. Prefix tokens have no location: their angles are 0.
void write_token_rotation(
    const CompiledPlan& plan, int64_t token, const float* location,
    std::array<const float*, 2> frequencies, int64_t panels, float* table, int64_t stride);

}  // namespace dsm_ext::cpu
