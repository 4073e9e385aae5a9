#include "dsm_ext/schedule.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <sstream>

namespace dsm_ext {
namespace {

constexpr int64_t kMost = 1'000'000'000;  // sums of a few counts cannot overflow

void check_count(const char* name, int64_t value) {
  TORCH_CHECK_VALUE(
      value >= 0, "dsm_ext.Schedule: expected ", name, " to be non-negative, got ", value);
  TORCH_CHECK_VALUE(
      value <= kMost, "dsm_ext.Schedule: expected ", name, " to be at most ", kMost, ", got ",
      value);
}

// The paper removes 16 tokens in each of 12 blocks, or 8 in each of 24: 192 for the whole model.
int64_t default_r(int64_t depth) {
  return std::clamp<int64_t>(192 / std::max<int64_t>(depth, 1), 1, 16);
}

int64_t default_skip(int64_t depth) {
  return depth <= 12 ? std::min<int64_t>(depth, 1) : depth / 6;
}

}  // namespace

Step Step::local(int64_t r, int64_t window) {
  TORCH_CHECK_VALUE(window > 0, "dsm_ext.Local: expected window to be positive, got ", window);
  return {r, window};
}

std::string Step::str() const {
  std::ostringstream text;
  if (is_local()) {
    text << "Local(r=" << r << ", window=" << window << ")";
  } else {
    text << "Global(r=" << r << ")";
  }
  return text.str();
}

Schedule::Schedule(std::vector<std::vector<Step>> blocks, bool proportional, MergeRule rule)
    : blocks_(std::move(blocks)), proportional_(proportional), rule_(rule) {
  check_merge_rule(rule);
  int64_t window = 0;
  bool global_seen = false;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    auto& steps = blocks_[i];
    for (const auto& step : steps) {
      check_count("r", step.r);
      check_count("window", step.window);
    }
    std::erase_if(steps, [](const Step& step) { return step.r == 0; });
    TORCH_CHECK_VALUE(
        std::count_if(steps.begin(), steps.end(), [](auto& s) { return s.is_local(); }) <= 1 &&
            std::count_if(steps.begin(), steps.end(), [](auto& s) { return !s.is_local(); }) <= 1,
        "dsm_ext.Schedule: expected at most one local and one global step in block ", i, ", got ",
        steps.size(), " steps");
    for (const auto& step : steps) {
      TORCH_CHECK_VALUE(
          !(step.is_local() && global_seen), "dsm_ext.Schedule: expected no local step after a ",
          "global one, because a global step does not keep windows; got one in block ", i);
      TORCH_CHECK_VALUE(
          !step.is_local() || window == 0 || step.window == window,
          "dsm_ext.Schedule: expected one window size, got ", window, " and, in block ", i, ", ",
          step.window);
      window = std::max(window, step.window);
      global_seen |= !step.is_local();
    }
  }
}

Schedule Schedule::dense(int64_t depth) {
  check_count("depth", depth);
  return Schedule(std::vector<std::vector<Step>>(depth));
}

Schedule Schedule::dsm(
    int64_t depth, std::optional<int64_t> r_, std::optional<int64_t> skip_,
    std::optional<int64_t> local_, int64_t window) {
  check_count("depth", depth);
  const int64_t r = r_.value_or(default_r(depth));
  const int64_t skip = skip_.value_or(default_skip(depth));
  const int64_t local = local_.value_or(std::clamp<int64_t>(depth - skip, 0, depth / 2));
  check_count("r", r);
  check_count("skip", skip);
  check_count("local", local);
  TORCH_CHECK_VALUE(
      skip + local <= depth,
      "dsm_ext.Schedule.dsm: expected skip + local to be at most depth = ", depth, ", got ", skip,
      " + ", local);
  TORCH_CHECK_VALUE(
      window > 0, "dsm_ext.Schedule.dsm: expected window to be positive, got ", window);
  std::vector<std::vector<Step>> blocks(depth);
  for (int64_t i = skip; i < depth; ++i) {
    blocks[i] = {i < skip + local ? Step::local(r, window) : Step::global(r)};
  }
  return Schedule(std::move(blocks));
}

Schedule Schedule::dfe(int64_t depth, std::optional<int64_t> r, std::optional<int64_t> skip) {
  check_count("depth", depth);
  const int64_t dense = skip.value_or(default_skip(depth));
  TORCH_CHECK_VALUE(
      dense <= depth, "dsm_ext.Schedule.dfe: expected skip to be at most depth = ", depth, ", got ",
      dense);
  return dsm(depth, r, dense, 0);
}

Schedule Schedule::tome(int64_t depth, std::optional<int64_t> r_, double inflection) {
  check_count("depth", depth);
  const int64_t r = r_.value_or(default_r(depth));
  check_count("r", r);
  TORCH_CHECK_VALUE(
      std::abs(inflection) <= 1,
      "dsm_ext.Schedule.tome: expected inflection to be in [-1, 1], got ", inflection);
  const auto first = static_cast<int64_t>(r * (1 - inflection));
  const int64_t last = 2 * r - first;
  std::vector<int64_t> each(depth);
  for (int64_t i = 0; i < depth; ++i) {
    each[i] = depth > 1 ? (first * (depth - 1 - i) + last * i) / (depth - 1) : r;
  }
  return tome(depth, each);
}

Schedule Schedule::tome(int64_t depth, const std::vector<int64_t>& r) {
  check_count("depth", depth);
  TORCH_CHECK_VALUE(
      static_cast<int64_t>(r.size()) <= depth,
      "dsm_ext.Schedule.tome: expected at most depth = ", depth, " values of r, got ", r.size());
  std::vector<std::vector<Step>> blocks(depth);
  for (size_t i = 0; i < r.size(); ++i) {
    blocks[i] = {Step::global(r[i])};
  }
  return Schedule(std::move(blocks));
}

std::string Schedule::str() const {
  std::ostringstream text;
  text << "Schedule([";
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const auto& steps = blocks_[i];
    text << (i ? ", " : "");
    if (steps.empty()) {
      text << "None";
    } else if (steps.size() == 1) {
      text << steps[0].str();
    } else {
      text << "[" << steps[0].str() << ", " << steps[1].str() << "]";
    }
  }
  text << "]" << (proportional_ ? "" : ", proportional=False");
  if (rule_ != MergeRule{}) {
    text << ", rule=" << rule_.str();
  }
  text << ")";
  return text.str();
}

std::string Schedule::text() const {
  std::ostringstream text;
  text << "list:r=";
  for (size_t i = 0; i < blocks_.size(); ++i) {
    text << (i ? "/" : "") << (blocks_[i].empty() ? "0" : "");
    for (size_t s = 0; s < blocks_[i].size(); ++s) {
      const auto& step = blocks_[i][s];
      text << (s ? "+" : "") << step.r;
      if (step.is_local()) {
        text << "w" << step.window;
      }
    }
  }
  if (!proportional_) {
    text << ",proportional=false";
  }
  if (rule_.metric != MergeMetric::keys) {
    text << ",metric=" << name_of(rule_.metric);
  }
  if (rule_.protect > 0) {
    text << ",protect=" << rule_.protect_text();
  }
  return text.str();
}

}  // namespace dsm_ext
