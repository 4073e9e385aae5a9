#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "dsm_ext/schedule.h"

// Schedules for a wanted saving. The template was found on DeiT-T (docs/method.md): the first
// blocks merge nothing, and each later block, but for the last, removes the same share of the
// grid's tokens that are left. So counts fall from block to block. The share follows from the
// saving, by the plan's own arithmetic. A quarter of the blocks is dense, or fewer when the share
// would be large.

namespace dsm_ext {
namespace {

constexpr MergeRule kRule = {.metric = MergeMetric::keys_and_tokens, .protect = 0.3};
constexpr double kMostShare = 0.5;  // no step can remove more of its tokens
// On DeiT-T, which has 12 blocks, a longer delay kept the answers better only while each block
// removed at most this share of its tokens (seen at 1.7, 2, 2.2 and 2.5 times fewer multiply-adds).
// A model with more blocks reaches the same tokens with a smaller share.
constexpr double kGoodShare = 0.25;
constexpr double kGoodDepth = 12;

Schedule with_share(const Config& config, int64_t skip, double share, const MergeRule& rule) {
  const auto patches = static_cast<double>(config.patches());
  std::vector<std::vector<Step>> blocks(config.depth);
  int64_t left = config.patches();
  for (int64_t i = skip; i + 1 < config.depth; ++i) {  // the last block cannot change the logits
    const auto wanted = std::llround(patches * std::pow(1 - share, i + 1 - skip));
    const int64_t r = std::min(left - static_cast<int64_t>(wanted), left / 2);
    blocks[i] = {Step::global(r)};
    left -= r;
  }
  return Schedule(std::move(blocks), /*proportional=*/true, rule);
}

double speedup_of(const Schedule& schedule, const Config& config) {
  const auto plan = schedule.plan(config);
  return static_cast<double>(plan.multiply_adds_dense) / static_cast<double>(plan.multiply_adds());
}

}  // namespace

Schedule Schedule::guided(
    const Config& config, double speedup, const std::optional<MergeRule>& rule_) {
  config.validate();
  const auto rule = rule_.value_or(kRule);
  const double most = speedup_of(with_share(config, 0, kMostShare, rule), config);
  TORCH_CHECK_VALUE(
      speedup >= 1 && speedup <= most, "dsm_ext.Schedule.guided: expected speedup to be in [1, ",
      most, "], the range that schedules reach for this model and image size, got ", speedup);
  const double good = std::min(
      kMostShare, 1 - std::pow(1 - kGoodShare, kGoodDepth / static_cast<double>(config.depth)));
  int64_t skip = config.depth / 4;
  while (skip > 0 && speedup_of(with_share(config, skip, good, rule), config) < speedup) {
    --skip;
  }
  // Counts are whole numbers, so the share has as many values that matter as a grid has patches and
  // blocks. Bisection comes between two neighbours of these; the nearer one is taken.
  double low = 0, high = kMostShare;
  for (int step = 0; step < 40; ++step) {
    const double middle = (low + high) / 2;
    (speedup_of(with_share(config, skip, middle, rule), config) < speedup ? low : high) = middle;
  }
  const auto less = with_share(config, skip, low, rule);
  const auto more = with_share(config, skip, high, rule);
  return speedup - speedup_of(less, config) < speedup_of(more, config) - speedup ? less : more;
}

}  // namespace dsm_ext
