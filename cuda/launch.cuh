#pragma once

// What the kernels share. Device code knows no torch header but for the two 16-bit types.

#include <cstdint>

namespace dsm_ext::cuda {

constexpr int kThreads = 256;

// The smallest number of blocks of kThreads that covers n; 64-bit, as sizes are.
inline int64_t blocks_for(int64_t n) { return (n + kThreads - 1) / kThreads; }

}  // namespace dsm_ext::cuda
