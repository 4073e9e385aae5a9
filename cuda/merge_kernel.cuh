#pragma once

#include "rows.cuh"

// Merging, and a norm of the merged tokens if the caller asks for one. A block of threads owns some
// output rows of one image. It first lists the members of each row in shared memory, in the order
// of their positions. So sums are added in the same order every run, without atomics. Then a warp
// takes a row, and a lane its channels.
//
// Values moved for an image: N * C in, M * C out, another M * C out with a norm, and N destinations
// and sizes for each block. Shared memory: 12 bytes for each token, 8 for each row, and with a norm
// 32 for each channel.
//
// A token whose destination is out of range is dropped. A row without members becomes NaN, because
// its mean is 0 / 0.

namespace dsm_ext::cuda {

constexpr int kMergeThreads = 256;

/// Bytes of dynamic shared memory for a block.
/// \param tokens           N of the image.
/// \param rows             Output rows of the block.
/// \param normed_channels  C with a norm, else 0.
constexpr int64_t merge_shared_bytes(int64_t tokens, int64_t rows, int64_t normed_channels) {
  return (3 * tokens + 2 * rows + 1 + kMergeThreads / 32 * normed_channels) *
         static_cast<int64_t>(sizeof(int32_t));
}

/// The tokens before merging.
template <typename T>
struct MergeInput {
  const T* x;                  // [B, N, C]
  const float* size;           // [B, N], or null when every token stands for one patch
  const int32_t* destination;  // [B, N]
  int32_t tokens, rows, channels;
};

/// The tokens after merging.
template <typename T>
struct MergeOutput {
  T* x;         // [B, M, C]
  float* size;  // [B, M]
  // Without a norm these are null:
  T* normed;           // [B, M, C]
  T* log_size;         // [B, log_stride]; zero after the first M
  int32_t log_stride;  // at least M
};

template <typename T, int kPack>
__global__ void merge_kernel_impl(
    MergeInput<T> from, MergeOutput<T> into, const NormArguments<T> norm,
    int32_t slices) {                   // blocks that share an image's rows
  DSM_EXT_DYNAMIC_SHARED(float, held);  // [warps, C] with a norm
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.x / slices;
  const auto slice = static_cast<int32_t>(blockIdx.x % slices);
  const int32_t tokens = from.tokens, rows = from.rows, channels = from.channels;
  const int32_t share = (rows + slices - 1) / slices;
  const int32_t first = slice * share;
  const int32_t own = rows - first < share ? rows - first : share;
  if (own <= 0) {
    return;
  }
  const bool normed = into.normed != nullptr;
  // own_row [N]: the token's destination, counted from this block's first row, or -1 for a row of
  // another block.
  auto* own_row = reinterpret_cast<int32_t*>(held + (normed ? kMergeThreads / 32 * channels : 0));
  auto* before = own_row + tokens;  // [N]: members of the same row in front of the token
  auto* begin = before + tokens;    // [own + 1]: where a row's list begins in `members`
  auto* members = begin + own + 1;  // [N]
  auto* count = members + tokens;   // [own]: members of the row
  const T* x = from.x + image * tokens * channels;
  const float* size = from.size == nullptr ? nullptr : from.size + image * tokens;
  const int32_t* destination = from.destination + image * tokens;

  for (int n = thread; n < tokens; n += kMergeThreads) {
    const int32_t row = destination[n];
    own_row[n] = row >= first && row - first < own ? row - first : -1;
  }
  for (int m = thread; m < own; m += kMergeThreads) {
    count[m] = 0;
  }
  if (normed && slice == 0) {
    for (int m = rows + thread; m < into.log_stride; m += kMergeThreads) {
      into.log_size[image * into.log_stride + m] = static_cast<T>(0.f);
    }
  }
  __syncthreads();
  for (int n = thread; n < tokens; n += kMergeThreads) {
    int32_t same = 0, last = 1;
    for (int k = 0; k < tokens; ++k) {
      const bool alike = own_row[k] == own_row[n];
      same += alike && k < n;
      last &= !(alike && k > n);
    }
    before[n] = same;
    if (last && own_row[n] >= 0) {
      count[own_row[n]] = same + 1;
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
    if (own_row[n] >= 0) {
      members[begin[own_row[n]] + before[n]] = n;
    }
  }
  __syncthreads();

  const int warp = thread / 32, lane = thread % 32;
  float* row = held + static_cast<int64_t>(warp) * channels;
  for (int m = warp; m < own; m += kMergeThreads / 32) {
    const int32_t s0 = begin[m], end = begin[m + 1];
    const int64_t out = image * rows + first + m;
    float total = 0;
    for (int32_t s = s0; s < end; ++s) {
      total += size == nullptr ? 1.f : size[members[s]];
    }
    if (lane == 0) {
      into.size[out] = total;
      if (normed) {
        into.log_size[image * into.log_stride + first + m] = static_cast<T>(log(total));
      }
    }
    const float scale = 1 / total;
    for (int c = lane * kPack; c < channels; c += 32 * kPack) {
      Pack<T, kPack> values;
      if (end - s0 == 1) {  // a single member keeps its bits
        values = pack<kPack>(x + static_cast<int64_t>(members[s0]) * channels + c);
      } else {
        float sum[kPack] = {};
        for (int32_t s = s0; s < end; ++s) {
          const int64_t n = members[s];
          const float weight = size == nullptr ? 1.f : size[n];
          const auto one = pack<kPack>(x + n * channels + c);
          for (int k = 0; k < kPack; ++k) {
            sum[k] += weight * static_cast<float>(one.at[k]);
          }
        }
        for (int k = 0; k < kPack; ++k) {
          values.at[k] = static_cast<T>(sum[k] * scale);
        }
      }
      pack<kPack>(into.x + out * channels + c) = values;
      if (normed) {
        for (int k = 0; k < kPack; ++k) {
          row[c + k] = static_cast<float>(values.at[k]);
        }
      }
    }
    if (normed) {
      normalize_row<kPack>(row, channels, norm, into.normed + out * channels);
    }
  }
}

}  // namespace dsm_ext::cuda
