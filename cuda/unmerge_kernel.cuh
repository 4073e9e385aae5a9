#pragma once

#include <cstdint>

// A gather of rows: a thread owns one output element. Bytes moved: 2*Q*C. A row whose source is out
// of range is zero: telling the caller would wait for the device.

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
