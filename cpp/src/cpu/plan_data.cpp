#include "cpu/plan_data.h"

#include <ATen/Functions.h>

#include "cpu/kernels/rotate.h"
#include "model/positions.h"

namespace dsm_ext::cpu {
namespace {

// frequencies: [2, blocks, heads, D / 2]. Returns [blocks, heads, N, D], without values for prefix
// tokens.
at::Tensor rotations_of(const CompiledPlan& plan, const at::Tensor& frequencies) {
  const int64_t blocks = frequencies.size(1), heads = frequencies.size(2);
  const int64_t pairs = frequencies.size(3), n = plan.config().tokens();
  auto rotations = at::empty({blocks, heads, n, 2 * pairs}, frequencies.options());
  auto* out = rotations.mutable_data_ptr<float>();
  const auto* location = plan.locations().const_data_ptr<float>();
  const auto* first = frequencies.const_data_ptr<float>();
  const auto* second = first + blocks * heads * pairs;
  for (int64_t h = 0; h < blocks * heads; ++h, first += pairs, second += pairs) {
    for (int64_t t = plan.config().prefix(); t < n; ++t) {
      write_rotation(
          coordinates(plan.axes(), location + 2 * t), {first, second}, pairs,
          out + (h * n + t) * 2 * pairs);
    }
  }
  return rotations;
}

}  // namespace

PlanData::PlanData(const CompiledPlan& plan, const Weights& weights, const Config& config)
    : positions(weights.positions) {
  const auto grid = plan.config().grid();
  if (positions.defined() && grid != config.grid()) {
    auto patches_only = config;
    patches_only.no_embed_class = true;  // `weights.positions` has no rows for the prefix
    positions = resample_positions(positions.unsqueeze(0), patches_only, grid);
    positions = positions.squeeze(0).contiguous();
  }
  if (weights.frequencies.defined()) {
    rotations = rotations_of(plan, weights.frequencies);
  }
  for (const auto& block : plan.plan().blocks) {
    auto& steps = groups.emplace_back();
    for (const auto& step : block.steps) {
      steps.push_back(match_groups(
          step.tokens_in, step.r, config.prefix(), step.windows,
          step.regroup ? plan.plan().window_order : std::vector<int32_t>{}));
    }
  }
}

}  // namespace dsm_ext::cpu
