#pragma once

#include <cstdint>

// Copies one row of x to each output row; a thread owns one output element. Values moved: 2 * Q * C
// an image. A row whose source is out of range becomes zero, because an error would make the caller
// wait for the device.

namespace dsm_ext::cuda {

template <typename T>
__global__ void unmerge_kernel_impl(
    const T* __restrict__ x,             // [B, M, C]
    const int32_t* __restrict__ source,  // [B, Q]
    int64_t tokens, int64_t rows, int64_t channels, int64_t count,
    T* __restrict__ result) {  // [B, Q, C]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) {
    return;
  }
  const int64_t row = i / channels;
  const int32_t from = source[row];
  const bool valid = from >= 0 && from < tokens;
  result[i] = valid ? x[(row / rows * tokens + from) * channels + i % channels] : T{};
}

}  // namespace dsm_ext::cuda
