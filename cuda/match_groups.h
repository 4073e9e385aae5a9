#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "match.h"
#include "match_kernel.cuh"

namespace dsm_ext::cuda {

/// What each block of `match_kernel_impl` works on: the whole grid, or a window.
inline std::vector<GroupShape> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows) {
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  if (windows.empty()) {
    return {{0, narrow(tokens - prefix), narrow(r), narrow(prefix)}};
  }
  std::vector<GroupShape> groups;
  int64_t begin = 0, base = prefix;
  for (const int64_t size : windows) {
    const int64_t removed = removed_from_window(size, r);
    groups.push_back({narrow(begin), narrow(size), narrow(removed), narrow(base)});
    begin += size;
    base += size - removed;
  }
  return groups;
}

}  // namespace dsm_ext::cuda
