#pragma once

#include <cstdint>
#include <string_view>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// What tokens are compared by.
enum class MergeMetric : int32_t {
  keys,  ///< The mean of a block's keys over the heads. Source: ToMe, arXiv 2210.09461, section 3.
};

/// What ranks the pairs of a token of A and its partner. The pairs of the highest scores merge.
enum class MergeScore : int32_t {
  similarity,  ///< The cosine of the two tokens' metrics. Source: ToMe, arXiv 2210.09461,
               ///< section 3.
};

/// How a merge step decides which tokens merge.
struct MergeRule {
  MergeMetric metric = MergeMetric::keys;
  MergeScore score = MergeScore::similarity;

  bool operator==(const MergeRule&) const = default;
};

/// The name of a value, which the functions below parse.
DSM_EXT_API std::string_view name_of(MergeMetric metric);
DSM_EXT_API std::string_view name_of(MergeScore score);

/// \throws c10::ValueError for a name that no metric has.
DSM_EXT_API MergeMetric parse_merge_metric(std::string_view name);

/// \throws c10::ValueError for a name that no score has.
DSM_EXT_API MergeScore parse_merge_score(std::string_view name);

}  // namespace dsm_ext
