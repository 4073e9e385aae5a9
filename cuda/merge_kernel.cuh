#pragma once

#include <cstdint>

// Merging as a gather. A block of threads owns some output rows of one image. It first turns the
// map of destinations round: in shared memory, for each of its rows the tokens that come there, in
// the order of their positions, so that sums are the same every run, with no atomics on values.
// Then a warp takes a row, a lane its channels. Bytes moved: N*C in and M*C out, and for each block
// the N integers and sizes of its image. Shared memory: 12 bytes for each token and 8 for each row.
//
// A row of `destination` out of range goes nowhere, and a row without a source becomes NaN, as its
// mean is.

namespace dsm_ext::cuda {

constexpr int kMergeThreads = 256;

// Bytes of dynamic shared memory for an image's map and a block's rows.
constexpr int64_t merge_shared_bytes(int64_t tokens, int64_t rows) {
  return (3 * tokens + 2 * rows + 1) * static_cast<int64_t>(sizeof(int32_t));
}

template <typename T>
__global__ void merge_kernel_impl(
    const T* __restrict__ x,                  // [B, N, C]
    const float* __restrict__ size,           // [B, N]
    const int32_t* __restrict__ destination,  // [B, N]
    int32_t tokens, int32_t rows, int64_t channels,
    int32_t slices,                     // blocks that share an image's rows
    T* __restrict__ merged,             // [B, M, C]
    float* __restrict__ merged_size) {  // [B, M]
  DSM_EXT_DYNAMIC_SHARED(int32_t, to);  // [N]: each token's place among this block's rows, or -1
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.x / slices;
  const auto slice = static_cast<int32_t>(blockIdx.x % slices);
  const int32_t share = (rows + slices - 1) / slices;
  const int32_t first = slice * share;
  const int32_t own = rows - first < share ? rows - first : share;
  if (own <= 0) {
    return;
  }
  auto* before = to + tokens;       // [N]: tokens of the same row in front of it
  auto* begin = before + tokens;    // [own + 1]: of a row's tokens in `sources`
  auto* sources = begin + own + 1;  // [N]
  auto* count = sources + tokens;   // [own]
  x += image * tokens * channels;
  size += image * tokens;
  destination += image * tokens;
  merged += (image * rows + first) * channels;
  merged_size += image * rows + first;

  for (int n = thread; n < tokens; n += kMergeThreads) {
    const int32_t row = destination[n];
    to[n] = row >= first && row - first < own ? row - first : -1;
  }
  for (int m = thread; m < own; m += kMergeThreads) {
    count[m] = 0;
  }
  __syncthreads();
  for (int n = thread; n < tokens; n += kMergeThreads) {
    int32_t same = 0, last = 1;
    for (int k = 0; k < tokens; ++k) {
      const bool alike = to[k] == to[n];
      same += alike && k < n;
      last &= !(alike && k > n);
    }
    before[n] = same;
    if (last && to[n] >= 0) {
      count[to[n]] = same + 1;
    }
  }
  __syncthreads();
  for (int m = thread; m <= own; m += kMergeThreads) {
    int32_t sum = 0;
    for (int k = 0; k < m; ++k) {
      sum += count[k];
    }
    begin[m] = sum;
  }
  __syncthreads();
  for (int n = thread; n < tokens; n += kMergeThreads) {
    if (to[n] >= 0) {
      sources[begin[to[n]] + before[n]] = n;
    }
  }
  __syncthreads();

  const int lane = thread % 32;
  for (int m = thread / 32; m < own; m += kMergeThreads / 32) {
    const int32_t from = begin[m], end = begin[m + 1];
    float total = 0;
    for (int32_t s = from; s < end; ++s) {
      total += size[sources[s]];
    }
    if (lane == 0) {
      merged_size[m] = total;
    }
    const float scale = 1 / total;
    for (int64_t c = lane; c < channels; c += 32) {
      if (end - from == 1) {  // nothing came: the value stays what it was, to the last bit
        merged[m * channels + c] = x[sources[from] * channels + c];
        continue;
      }
      float sum = 0;
      for (int32_t s = from; s < end; ++s) {
        const int64_t n = sources[s];
        sum += size[n] * static_cast<float>(x[n * channels + c]);
      }
      merged[m * channels + c] = static_cast<T>(sum * scale);
    }
  }
}

}  // namespace dsm_ext::cuda
