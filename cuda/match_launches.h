#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "groups.h"
#include "match_kernel.cuh"

namespace dsm_ext::cuda {

/// The groups of one step, launch by launch.
inline std::vector<Groups> match_launches(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows) {
  std::vector<Groups> launches;
  for (const auto& shape :
       groups_of_step(tokens, r, prefix, std::span(windows.data(), windows.size()))) {
    if (launches.empty() || launches.back().count == Groups::kHeld) {
      launches.push_back({.count = 0, .first = launches.empty(), .held = {}});
    }
    launches.back().held[launches.back().count++] = shape;
  }
  return launches;
}

/// The tokens of the largest group of a launch.
inline int64_t largest_group(const Groups& groups) {
  int32_t largest = 0;
  for (int i = 0; i < groups.count; ++i) {
    largest = std::max(largest, groups.held[i].tokens);
  }
  return largest;
}

}  // namespace dsm_ext::cuda
