#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>
#include <vector>

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

/// Scales a row to a length; `out` may be `row`.
/// \return  False for a zero-length or non-finite row, for which nothing is written.
bool scaled_row(const float* row, int64_t dim, double length, float* out);

/// Writes the row by which a token is compared, at unit length.
/// \return  False if the token has no direction; what was written is then ignored.
using WriteUnitRow = c10::function_ref<bool(int64_t token, float* unit)>;

/// Matches one group at a time. Its workspace grows to the largest group and is used again. Outside
/// of a parallel region, the matcher uses torch's threads for large groups.
class Matcher {
 public:
  /// Writes the destinations of the group's tokens.
  /// \param write_row    Writes the `dim` values of a token; several threads may call it.
  /// \param penalty      [N]: what is subtracted from the similarity of a token of A and its
  ///                     partner before the pairs are ranked; null: nothing.
  /// \param destination  [N]; other groups' tokens and the prefix are left alone.
  void operator()(
      WriteUnitRow write_row, int64_t dim, const MatchGroup& group, const float* penalty,
      int32_t* destination);

 private:
  void load(WriteUnitRow write_row, int64_t dim, const MatchGroup& group);
  void propose(int64_t dim, const MatchGroup& group);
  void propose_rows(int64_t first, int64_t dim, const MatchGroup& group, float* similarities);
  void select(const MatchGroup& group, const float* penalty);
  void write(const MatchGroup& group, int32_t* destination) const;

  int64_t columns_ = 0;             // tokens of B, padded
  std::vector<float> units_;        // [A + columns_, dim]: unit rows, or zeros
  std::vector<float> b_;            // [dim, columns_]: those of B, transposed
  std::vector<char> valid_;         // [A + B]: false for a zero-length or non-finite row
  std::vector<int32_t> b_invalid_;  // the tokens of B that have such a row
  std::vector<float> tiles_;        // [threads, kRows, columns_] similarities
  std::vector<float> similarity_;   // [A]: to the partner
  std::vector<int32_t> partner_;    // [A]: its index in B
  std::vector<float> score_;        // [A]: ranks the pairs
  std::vector<char> merged_away_;   // [A]
};

}  // namespace dsm_ext
