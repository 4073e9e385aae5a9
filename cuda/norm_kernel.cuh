#pragma once

#include "rows.cuh"

// A norm of each row. A warp owns a row: it reads the row once and keeps it in shared memory, as
// float32, for the mean, the variance and the result. A block may have any number of warps. Values
// moved for a row: C in and C out. Shared memory for a warp: 4 * C bytes.

namespace dsm_ext::cuda {

template <typename T, int kPack>
__global__ void norm_kernel_impl(
    const T* __restrict__ x,  // [rows, C]
    const NormArguments<T> norm, int64_t rows, int32_t channels,
    T* __restrict__ out) {  // [rows, C]
  DSM_EXT_DYNAMIC_SHARED(float, held);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + warp;
  if (row >= rows) {
    return;
  }
  float* own = held + static_cast<int64_t>(warp) * channels;
  x += row * channels;
  for (int c = lane * kPack; c < channels; c += 32 * kPack) {
    const auto values = pack<kPack>(x + c);
    for (int k = 0; k < kPack; ++k) {
      own[c + k] = static_cast<float>(values.at[k]);
    }
  }
  normalize_row<kPack>(own, channels, norm, out + row * channels);
}

}  // namespace dsm_ext::cuda
