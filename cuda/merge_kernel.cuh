#pragma once

#include "rows.cuh"

// Merging as a gather, and the norm behind it where there is one. A block of threads owns some
// output rows of one image. It first turns the map of destinations round: in shared memory, for
// each of its rows the tokens that come there, in the order of their positions, so that sums are
// the same every run, with no atomics on values. Then a warp takes a row, a lane its channels.
// Bytes moved: N*C in, M*C out, as much again with a norm, and for each block the N integers and
// sizes of its image. Shared memory: 12 bytes for each token, 8 for each row, with a norm 32 for
// each channel.
//
// A row of `destination` out of range goes nowhere, and a row without a source becomes NaN, as its
// mean is.

namespace dsm_ext::cuda {

constexpr int kMergeThreads = 256;

// Bytes of dynamic shared memory for an image's map, a block's rows, and the rows of its warps.
constexpr int64_t merge_shared_bytes(int64_t tokens, int64_t rows, int64_t normed_channels) {
  return (3 * tokens + 2 * rows + 1 + kMergeThreads / 32 * normed_channels) *
         static_cast<int64_t>(sizeof(int32_t));
}

/// What is merged.
template <typename T>
struct Merged {
  const T* x;                  // [B, N, C]
  const float* size;           // [B, N], or null: every token stands for one patch
  const int32_t* destination;  // [B, N]
  int32_t tokens, rows, channels;
};

/// Where it goes.
template <typename T>
struct MergedInto {
  T* x;         // [B, M, C]
  float* size;  // [B, M]
  // Of a norm; all null without one:
  T* normed;           // [B, M, C]
  T* log_size;         // [B, log_stride], zero behind the first M
  int32_t log_stride;  // at least M
};

template <typename T, int kPack>
__global__ void merge_kernel_impl(
    Merged<T> from, MergedInto<T> into, const NormOf<T> norm,
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
  auto* to = reinterpret_cast<int32_t*>(held + (normed ? kMergeThreads / 32 * channels : 0));
  // `to` [N]: each token's place among this block's rows, or -1
  auto* before = to + tokens;       // [N]: tokens of the same row in front of it
  auto* begin = before + tokens;    // [own + 1]: of a row's tokens in `sources`
  auto* sources = begin + own + 1;  // [N]
  auto* count = sources + tokens;   // [own]
  const T* x = from.x + image * tokens * channels;
  const float* size = from.size == nullptr ? nullptr : from.size + image * tokens;
  const int32_t* destination = from.destination + image * tokens;

  for (int n = thread; n < tokens; n += kMergeThreads) {
    const int32_t row = destination[n];
    to[n] = row >= first && row - first < own ? row - first : -1;
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

  const int warp = thread / 32, lane = thread % 32;
  float* row = held + static_cast<int64_t>(warp) * channels;
  for (int m = warp; m < own; m += kMergeThreads / 32) {
    const int32_t s0 = begin[m], end = begin[m + 1];
    const int64_t out = image * rows + first + m;
    float total = 0;
    for (int32_t s = s0; s < end; ++s) {
      total += size == nullptr ? 1.f : size[sources[s]];
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
      if (end - s0 == 1) {  // nothing came: the value stays what it was, to the last bit
        values = pack<kPack>(x + static_cast<int64_t>(sources[s0]) * channels + c);
      } else {
        float sum[kPack] = {};
        for (int32_t s = s0; s < end; ++s) {
          const int64_t n = sources[s];
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
