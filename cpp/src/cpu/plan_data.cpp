#include "cpu/plan_data.h"

#include <ATen/Functions.h>

#include "cpu/kernels/rotation.h"
#include "model/positions.h"

namespace dsm_ext::cpu {

void write_token_rotation(
    const CompiledPlan& plan, int64_t token, const float* location,
    std::array<const float*, 2> frequencies, int64_t panels, float* table, int64_t stride) {
  const bool turned = token >= plan.config().prefix();
  write_rotation(
      turned ? coordinates(plan.axes(), location) : std::array{0.f, 0.f}, frequencies, panels,
      table, stride);
}

namespace {

// Larger tables are not kept. Only those of `RopeType::mixed` can be larger, because each of its
// blocks has its own, and only with many tokens.
constexpr int64_t kMostBytes = 64 << 20;

int64_t rotations_bytes(const CompiledPlan& plan, const at::Tensor& frequencies) {
  return frequencies.numel() * plan.config().tokens() * static_cast<int64_t>(sizeof(float));
}

// frequencies: [2, blocks, panels * kPairs]. Returns [blocks, panels, N, 2 * kPairs].
at::Tensor rotations_of(const CompiledPlan& plan, const at::Tensor& frequencies) {
  const int64_t blocks = frequencies.size(1), pairs = frequencies.size(2);
  const int64_t n = plan.config().tokens(), panel = n * 2 * kPairs;
  auto rotations = at::empty({blocks, pairs / kPairs, n, 2 * kPairs}, frequencies.options());
  for (int64_t block = 0; block < blocks; ++block) {
    const auto* first = frequencies.const_data_ptr<float>() + block * pairs;
    auto* out = rotations.mutable_data_ptr<float>() + block * pairs / kPairs * panel;
    for (int64_t t = 0; t < n; ++t) {
      write_token_rotation(
          plan, t, plan.locations().const_data_ptr<float>() + 2 * t,
          {first, first + blocks * pairs}, pairs / kPairs, out + t * 2 * kPairs, panel);
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
  if (weights.frequencies.defined() && rotations_bytes(plan, weights.frequencies) <= kMostBytes) {
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
