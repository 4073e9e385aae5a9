#pragma once

#include "row_shape.h"
#include "rows.cuh"

// Merging, and a norm of the merged tokens if the caller asks for one. A warp owns an output row.
// It finds the row's members by comparing the destinations of all tokens, 32 at a time, with the
// row's index. So it adds the members in the order of their positions, the same in every run,
// without atomics or shared memory.
//
// Values moved for an image: N * C in, M * C out, and another M * C out with a norm. Each warp
// reads the N destinations of its image, which stay in the first-level cache.
//
// A token whose destination is out of range is dropped. A row without members becomes NaN, because
// its mean is 0 / 0.

namespace dsm_ext::cuda {

/// The tokens before merging.
template <typename T>
struct MergeInput {
  const T* x;                  // [B, N, C]
  const float* size;           // [B, N], or null when every token stands for one patch
  const int32_t* destination;  // [B, N]
  int32_t images, tokens, rows, channels;
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

/// Calls f(n) for each token whose destination is `row`, in the order of the tokens. All lanes of
/// the warp call it together.
template <typename F>
__device__ inline void for_each_member(
    const int32_t* __restrict__ destination, int32_t tokens, int32_t row, const F& f) {
  constexpr int kAhead = 4;  // reads that wait for memory together
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int32_t begin = 0; begin < tokens; begin += 32 * kAhead) {
    int32_t found[kAhead];
    DSM_EXT_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      const int32_t n = begin + 32 * k + lane;
      found[k] = n < tokens ? destination[n] : -1;
    }
    DSM_EXT_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      for (unsigned members = __ballot_sync(kAllLanes, found[k] == row); members != 0;
           members &= members - 1) {
        f(begin + 32 * k + __ffs(static_cast<int>(members)) - 1);
      }
    }
  }
}

template <typename T, int kPack, int kSteps>
__global__ void __launch_bounds__(32 * kRowWarps, row_blocks_at_once(kSteps)) merge_kernel_impl(
    const MergeInput<T> from, const MergeOutput<T> into, const NormArguments<T> norm) {
  using OwnRow = Row<T, kPack, kSteps>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t out =
      static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + static_cast<int>(threadIdx.x) / 32;
  if (out >= static_cast<int64_t>(from.images) * from.rows) {
    return;
  }
  const int32_t tokens = from.tokens, channels = from.channels;
  const int64_t image = out / from.rows;
  const auto m = static_cast<int32_t>(out % from.rows);
  const T* x = from.x + image * tokens * channels;
  const float* size = from.size == nullptr ? nullptr : from.size + image * tokens;
  const int32_t* destination = from.destination + image * tokens;
  const auto weight_of = [&](int32_t n) { return size == nullptr ? 1.f : size[n]; };

  int32_t count = 0, member = 0;
  float total = 0;
  for_each_member(destination, tokens, m, [&](int32_t n) {
    member = n;
    ++count;
    total += weight_of(n);
  });
  if (lane == 0) {
    into.size[out] = total;
  }
  if (into.normed != nullptr) {
    T* log_size = into.log_size + image * into.log_stride;
    if (lane == 0) {
      log_size[m] = static_cast<T>(log(total));
    }
    if (m == from.rows - 1) {
      for (int i = from.rows + lane; i < into.log_stride; i += 32) {
        log_size[i] = static_cast<T>(0.f);
      }
    }
  }

  T* merged = into.x + out * channels;
  OwnRow row(merged, channels);
  const float scale = 1 / total;
  for (int part = 0; part < (OwnRow::kInParts ? channels : 1); part += OwnRow::kPart) {
    if (count == 1) {  // a single member keeps its bits
      row.for_each_of_part(part, [&](int c, float* values) {
        const auto read = pack<kPack>(x + static_cast<int64_t>(member) * channels + c);
        pack<kPack>(merged + c) = read;
        for (int k = 0; k < kPack; ++k) {
          values[k] = static_cast<float>(read.at[k]);
        }
      });
      continue;
    }
    row.for_each_of_part(part, [&](int, float* values) {
      for (int k = 0; k < kPack; ++k) {
        values[k] = 0;
      }
    });
    for_each_member(destination, tokens, m, [&](int32_t n) {
      const float weight = weight_of(n);
      row.for_each_of_part(part, [&](int c, float* values) {
        const auto read = pack<kPack>(x + static_cast<int64_t>(n) * channels + c);
        for (int k = 0; k < kPack; ++k) {
          values[k] += weight * static_cast<float>(read.at[k]);
        }
      });
    });
    row.for_each_of_part(part, [&](int c, float* values) {
      Pack<T, kPack> rounded;
      for (int k = 0; k < kPack; ++k) {
        rounded.at[k] = static_cast<T>(values[k] * scale);
        values[k] = static_cast<float>(rounded.at[k]);
      }
      pack<kPack>(merged + c) = rounded;
    });
  }
  if (into.normed != nullptr) {
    normalize_row(row, channels, norm, into.normed + out * channels);
  }
}

}  // namespace dsm_ext::cuda
