#pragma once

#include <cstdint>
#include <vector>

#include "dsm_ext/merge_rule.h"

namespace dsm_ext {

/// The two sets of a group, and where its tokens go.
struct MatchGroup {
  std::vector<int32_t> a, b;  // indices of tokens in the sequence
  int64_t r;                  // tokens of A that merge away
  int64_t base;               // index of the group's first token in the merged sequence
};

/// The groups of one step.
/// \param tokens   N, the prefix included.
/// \param windows  How many tokens each window has; empty: the sequence is one group.
/// \param order    [N - prefix]: the token, counted without the prefix, at each place of the
///                 window-major order; empty: the tokens are in that order already.
std::vector<MatchGroup> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, const std::vector<int64_t>& windows,
    const std::vector<int32_t>& order);

/// Matches one group at a time. Its workspace grows to the largest group and is used again.
class Matcher {
 public:
  /// Writes the destinations of the group's tokens.
  /// \param metric       [N, dim].
  /// \param destination  [N]; other groups' tokens and the prefix are left alone.
  void operator()(
      const float* metric, int64_t dim, const MatchGroup& group, MergeScore score,
      int32_t* destination);

 private:
  void load(const float* metric, int64_t dim, const MatchGroup& group);
  void propose(int64_t dim, const MatchGroup& group);
  void select(int64_t r, MergeScore score);
  void write(const MatchGroup& group, int32_t* destination) const;

  int64_t columns_ = 0;             // tokens of B, padded
  std::vector<float> a_, b_;        // unit rows [A, D] and, transposed, [D, columns_]
  std::vector<char> a_valid_;       // [A]: false for a zero-length or non-finite row
  std::vector<int32_t> b_invalid_;  // the tokens of B that have such a row
  std::vector<float> tile_;         // [kRows, columns_] similarities
  std::vector<float> similarity_;   // [A]: to the partner
  std::vector<int32_t> partner_;    // [A]: its index in B
  std::vector<float> score_;        // [A]: ranks the pairs
  std::vector<char> merged_away_;   // [A]
};

}  // namespace dsm_ext
