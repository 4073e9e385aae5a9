#include "dsm_ext/merge_rule.h"

#include <c10/util/Exception.h>

namespace dsm_ext {

std::string_view name_of(MergeMetric metric) {
  switch (metric) {
    case MergeMetric::keys:
      return "keys";
  }
  return "unknown";
}

std::string_view name_of(MergeScore score) {
  switch (score) {
    case MergeScore::similarity:
      return "similarity";
  }
  return "unknown";
}

MergeMetric parse_merge_metric(std::string_view name) {
  TORCH_CHECK_VALUE(name == "keys", "dsm_ext.match: expected metric to be keys, got ", name);
  return MergeMetric::keys;
}

MergeScore parse_merge_score(std::string_view name) {
  TORCH_CHECK_VALUE(
      name == "similarity", "dsm_ext.match: expected score to be similarity, got ", name);
  return MergeScore::similarity;
}

}  // namespace dsm_ext
