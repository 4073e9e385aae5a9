#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "match.h"
#include "match_kernel.cuh"

namespace dsm_ext::cuda {

/// What each block of `match_kernel_impl` works on, the whole grid or a window, a launch each.
inline std::vector<Groups> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows) {
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  std::vector<Groups> launches;
  const auto add = [&](const GroupShape& shape) {
    if (launches.empty() || launches.back().count == Groups::kHeld) {
      launches.push_back({.count = 0, .first = launches.empty(), .held = {}});
    }
    launches.back().held[launches.back().count++] = shape;
  };
  if (windows.empty()) {
    add({0, narrow(tokens - prefix), narrow(r), narrow(prefix)});
  }
  int64_t begin = 0, base = prefix;
  for (const int64_t size : windows) {
    const int64_t removed = removed_from_window(size, r);
    add({narrow(begin), narrow(size), narrow(removed), narrow(base)});
    begin += size;
    base += size - removed;
  }
  return launches;
}

/// Tokens of the largest.
inline int64_t largest_group(const Groups& groups) {
  int32_t largest = 0;
  for (int i = 0; i < groups.count; ++i) {
    largest = std::max(largest, groups.held[i].tokens);
  }
  return largest;
}

}  // namespace dsm_ext::cuda
