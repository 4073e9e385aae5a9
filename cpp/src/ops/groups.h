#pragma once

#include <algorithm>
#include <cstdint>
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

/// How many of a window's tokens merge away when a step takes `r` from each window.
constexpr int64_t removed_from_window(int64_t tokens, int64_t r) { return std::min(r, tokens / 2); }

/// The groups of one step, in the window-major order.
/// \param tokens   N, the prefix included.
/// \param r        Tokens to take from the sequence, or with windows from each window.
/// \param windows  How many tokens each window has; empty: the sequence is one group.
inline std::vector<GroupShape> groups_of_step(
    int64_t tokens, int64_t r, int64_t prefix, std::span<const int64_t> windows) {
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  if (windows.empty()) {
    return {{0, narrow(tokens - prefix), narrow(r), narrow(prefix)}};
  }
  std::vector<GroupShape> groups;
  groups.reserve(windows.size());
  int64_t begin = 0, base = prefix;
  for (const int64_t size : windows) {
    const int64_t removed = removed_from_window(size, r);
    groups.push_back({narrow(begin), narrow(size), narrow(removed), narrow(base)});
    begin += size;
    base += size - removed;
  }
  return groups;
}

/// The first place of the set A in a group; A has every second place from there, and B the others.
/// A has the even positions. A group that is a whole sequence counts positions with the prefix, and
/// a window counts them without it.
/// \param windows  Whether the step has windows.
constexpr int64_t first_of_a(int64_t prefix, bool windows) { return windows ? 0 : prefix % 2; }

}  // namespace dsm_ext
