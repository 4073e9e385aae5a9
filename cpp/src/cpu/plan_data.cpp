#include "cpu/plan_data.h"

#include "model/positions.h"

namespace dsm_ext::cpu {

PlanData::PlanData(const CompiledPlan& plan, const Weights& weights, const Config& config)
    : positions(weights.positions) {
  const auto grid = plan.config().grid();
  if (positions.defined() && grid != config.grid()) {
    auto patches_only = config;
    patches_only.no_embed_class = true;  // `weights.positions` has no rows for the prefix
    positions = resample_positions(positions.unsqueeze(0), patches_only, grid);
    positions = positions.squeeze(0).contiguous();
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
