#pragma once

#include <algorithm>
#include <cstdint>

namespace dsm_ext {

/// The fewest rows of `channels` values that make a task of `at::parallel_for` worth its start.
inline int64_t rows_per_task(int64_t channels) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, channels));
}

}  // namespace dsm_ext
