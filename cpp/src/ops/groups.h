#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

// The groups of a merge step: which tokens each has, how many of them merge away, and where the
// rest goes. Plans, the CPU's matcher and the CUDA kernels use this one arithmetic of windows.

namespace dsm_ext {

/// A group: the tokens of an image, or of one window, which are matched among themselves. They
/// stand side by side in the window-major order, whose places are counted without the prefix.
struct GroupShape {
  int32_t begin;   // place of its first token in the window-major order
  int32_t tokens;  // T, before the step
  int32_t r;       // tokens of A that merge away
  int32_t base;    // index of its first token in the merged sequence, the prefix included
};

/// The most tokens that a step can take from windows: half of each window's, rounded down.
inline int64_t most_removed(std::span<const int64_t> windows) {
  return std::accumulate(
      windows.begin(), windows.end(), int64_t{0},
      [](int64_t sum, int64_t tokens) { return sum + tokens / 2; });
}

/// How many tokens each window loses when a step takes `r` from all of them together. Each of G
/// windows loses r / G, rounded down, and each of the first r mod G one more. What a window cannot
/// give, the next ones give, after the last one the first.
/// \param r  At most `most_removed(windows)`.
inline std::vector<int64_t> removed_from_windows(int64_t r, std::span<const int64_t> windows) {
  const auto count = static_cast<int64_t>(windows.size());
  std::vector<int64_t> removed(count, 0);
  int64_t rest = 0;  // what earlier windows could not give
  for (int64_t turn = 0; turn < 2; ++turn) {
    for (int64_t g = 0; g < count; ++g) {
      rest += turn > 0 ? 0 : r / count + (g < r % count ? 1 : 0);
      const int64_t given = std::min(rest, windows[g] / 2 - removed[g]);
      removed[g] += given;
      rest -= given;
    }
  }
  return removed;
}

/// The groups of one step, in the window-major order.
/// \param tokens   N, the prefix included.
/// \param r        Tokens to take from the sequence.
/// \param windows  How many tokens each window has; empty: the sequence is one group.
inline std::vector<GroupShape> groups_of_step(
    int64_t tokens, int64_t r, int64_t prefix, std::span<const int64_t> windows) {
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  if (windows.empty()) {
    return {{0, narrow(tokens - prefix), narrow(r), narrow(prefix)}};
  }
  std::vector<GroupShape> groups;
  groups.reserve(windows.size());
  const auto removed = removed_from_windows(r, windows);
  int64_t begin = 0, base = prefix;
  for (size_t g = 0; g < windows.size(); ++g) {
    groups.push_back({narrow(begin), narrow(windows[g]), narrow(removed[g]), narrow(base)});
    begin += windows[g];
    base += windows[g] - removed[g];
  }
  return groups;
}

/// The first place of the set A in a group; A has every second place from there, and B the others.
/// A has the even positions. A group that is a whole sequence counts positions with the prefix, and
/// a window counts them without it.
/// \param windows  Whether the step has windows.
constexpr int64_t first_of_a(int64_t prefix, bool windows) { return windows ? 0 : prefix % 2; }

}  // namespace dsm_ext
