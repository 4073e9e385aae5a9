#pragma once

#include <ATen/Parallel.h>

#include <algorithm>

namespace dsm_ext {

/// Rows of `channels` values that are worth a thread's while.
inline int64_t rows_per_task(int64_t channels) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, channels));
}

}  // namespace dsm_ext
