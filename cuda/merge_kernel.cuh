#pragma once

#include <cstdint>

// Merging as a gather: one block of threads owns one output row and walks over the destinations of
// its image, adding the rows that come here, in the order of their positions: no atomics, the same
// bits every run. Bytes moved: N*C in, M*C out, and N integers for each row, from cache. A row of
// `destination` out of range goes nowhere, and a row without a source becomes NaN, as its mean is.

namespace dsm_ext::cuda {

template <typename T>
__global__ void merge_kernel_impl(
    const T* __restrict__ x,                  // [B, N, C]
    const float* __restrict__ size,           // [B, N]
    const int32_t* __restrict__ destination,  // [B, N]
    int64_t tokens, int64_t rows, int64_t channels,
    T* __restrict__ merged,             // [B, M, C]
    float* __restrict__ merged_size) {  // [B, M]
  const int64_t image = blockIdx.x / rows;
  const auto row = static_cast<int32_t>(blockIdx.x % rows);
  x += image * tokens * channels;
  size += image * tokens;
  destination += image * tokens;
  merged += blockIdx.x * channels;
  for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
    float sum = 0, total = 0;
    int sources = 0;
    T last{};
    for (int64_t n = 0; n < tokens; ++n) {
      if (destination[n] == row) {
        last = x[n * channels + c];
        sum += size[n] * static_cast<float>(last);
        total += size[n];
        ++sources;
      }
    }
    merged[c] = sources == 1 ? last : static_cast<T>(sum * (1 / total));
  }
  if (threadIdx.x == 0) {
    float total = 0;
    for (int64_t n = 0; n < tokens; ++n) {
      total += destination[n] == row ? size[n] : 0;
    }
    merged_size[blockIdx.x] = total;
  }
}

}  // namespace dsm_ext::cuda
