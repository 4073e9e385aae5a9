#pragma once

#include "row_shape.h"
#include "rows.cuh"

// A norm of each row. A warp owns a row: it reads the row once and keeps it in registers, as
// float32, for the mean, the variance and the result. Values moved for a row: C in and C out.

namespace dsm_ext::cuda {

template <typename T, int kPack, int kSteps>
__global__ void __launch_bounds__(32 * kRowWarps, row_blocks_at_once(kSteps)) norm_kernel_impl(
    const T* __restrict__ x,  // [rows, C]
    const NormArguments<T> norm, int64_t rows, int32_t channels,
    T* __restrict__ out) {  // [rows, C]
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) {
    return;
  }
  Row<T, kPack, kSteps> own(x + row * channels, channels);
  own.load();
  normalize_row(own, channels, norm, out + row * channels);
}

}  // namespace dsm_ext::cuda
