#include "dsm_ext/merge_rule.h"

#include <c10/util/Exception.h>

#include <charconv>
#include <cmath>

namespace dsm_ext {

std::string_view name_of(MergeMetric metric) {
  switch (metric) {
    case MergeMetric::keys:
      return "keys";
    case MergeMetric::keys_and_tokens:
      return "keys+tokens";
  }
  return "unknown";
}

MergeMetric parse_merge_metric(std::string_view name) {
  for (const auto metric : {MergeMetric::keys, MergeMetric::keys_and_tokens}) {
    if (name == name_of(metric)) {
      return metric;
    }
  }
  C10_THROW_ERROR(
      ValueError,
      "dsm_ext.MergeRule: expected metric to be keys or keys+tokens, got " + std::string(name));
}

void check_merge_rule(const MergeRule& rule) {
  TORCH_CHECK_VALUE(
      rule.protect >= 0 && std::isfinite(rule.protect),
      "dsm_ext.MergeRule: expected protect to be finite and not negative, got ", rule.protect);
}

std::string MergeRule::protect_text() const {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, protect);
  return {digits, end};
}

std::string MergeRule::str() const {
  return "MergeRule(metric='" + std::string(name_of(metric)) + "', protect=" + protect_text() + ")";
}

}  // namespace dsm_ext
