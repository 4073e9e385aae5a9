#pragma once

// What the launchers share. The kernels' own files (.cuh) know no torch header.

#include <cstdint>

namespace dsm_ext::cuda {

constexpr int kThreads = 256;

// The smallest number of blocks of kThreads that covers n; 64-bit, as sizes are.
inline int64_t blocks_for(int64_t n) { return (n + kThreads - 1) / kThreads; }

}  // namespace dsm_ext::cuda
