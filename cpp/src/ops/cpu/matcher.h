#pragma once

#include <cstdint>
#include <vector>

namespace dsm_ext {

/// Tokens that are matched among themselves: an image's, or one window's.
struct MatchGroup {
  std::vector<int32_t> a, b;  // by their index in the sequence
  int64_t r;                  // tokens of A that merge
  int64_t base;               // where the group's output begins
};

/// The groups of one step.
/// \param order The patches' places in window-major order, or empty where they are in order.
std::vector<MatchGroup> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, const std::vector<int64_t>& windows,
    const std::vector<int32_t>& order);

/// Matches one group at a time in a workspace of its own, which grows to the largest group.
class Matcher {
 public:
  /// Writes the destinations of the group's tokens.
  /// \param metric [N, dim].
  void operator()(const float* metric, int64_t dim, const MatchGroup& group, int32_t* destination);

 private:
  void load(const float* metric, int64_t dim, const MatchGroup& group);
  void propose(int64_t dim, const MatchGroup& group);
  void write(const MatchGroup& group, int32_t* destination) const;

  int64_t columns_ = 0;
  std::vector<float> a_, b_, scores_;  // [A, D], [D, B], [kRows, B]
  std::vector<char> a_valid_;          // false: zero-length or not finite
  std::vector<int32_t> b_invalid_;
  std::vector<float> similarity_;  // the best of each token of A,
  std::vector<int32_t> partner_;   // and its index in B
};

}  // namespace dsm_ext
