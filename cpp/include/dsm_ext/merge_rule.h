#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// What tokens are compared by.
enum class MergeMetric : int32_t {
  /// "keys": the mean of a block's keys over the heads. Source: ToMe, arXiv 2210.09461, section 3.
  keys,
  /// "keys+tokens": these keys and, beside them, the block's tokens after attention's residual.
  /// Both parts have unit length, so the cosine of two tokens is the mean of two cosines.
  keys_and_tokens,
};

/// How a merge step decides which tokens merge.
struct DSM_EXT_API MergeRule {
  MergeMetric metric = MergeMetric::keys;

  /// How strongly the tokens that the class token attends to are kept from merging. The pairs of
  /// the highest scores merge, and the score of a token of A and its partner is
  /// `similarity - protect * N * a`. Here N is the number of tokens, and a is the attention of the
  /// class token to the token of A, its mean over the heads. A model without a class token takes
  /// the mean of all queries, weighted by size, in place of the class token's query. With 0 the
  /// similarity alone decides. Not negative, and finite.
  double protect = 0;

  bool operator==(const MergeRule&) const = default;
  std::string str() const;
  std::string protect_text() const;  ///< `protect` in the fewest digits that give it.
};

/// The name of a metric, which `parse_merge_metric` parses.
DSM_EXT_API std::string_view name_of(MergeMetric metric);

/// \throws c10::ValueError for a name that no metric has.
DSM_EXT_API MergeMetric parse_merge_metric(std::string_view name);

/// \throws c10::ValueError when `protect` is negative or not finite.
DSM_EXT_API void check_merge_rule(const MergeRule& rule);

}  // namespace dsm_ext
