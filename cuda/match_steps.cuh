#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "dsm_ext/merge_rule.h"
#include "rows.cuh"
#include "tensor_core.cuh"

// The steps of matching one group, each done by all threads of a block together: unit rows,
// propose, select. The caller puts a barrier between two steps. match_kernel.cuh says what they
// share.

namespace dsm_ext::cuda {

constexpr int kChannels = 4;     // channels that a thread reads at once
constexpr int kHeadsAtOnce = 8;  // heads that a thread reads before it waits for memory
constexpr int kTilesOfB = 7;     // tiles of 8 columns that a warp computes at once

/// Entries to allocate for `count` values. The compiler reads some arrays four values at a time,
/// and then also reads values behind the last one.
__host__ __device__ constexpr int64_t padded_entries(int64_t count) { return (count + 3) / 4 * 4; }

/// What is matched: each token's keys. Their mean over the heads is the metric.
template <typename T>
struct Keys {
  const T* data;
  int64_t image, head, token;  // strides in elements; channels lie side by side
  int32_t heads, channels;     // H, D
  bool packed;                 // whether kChannels channels may be read at once: addresses allow it
};

/// What a block keeps of its group. The rows lie in shared memory or, when they do not fit, in the
/// device's memory. The rest lies in shared memory.
struct MatchState {
  int a_count, b_count;
  int64_t stride;            // floats between the starts of two rows
  float* rows;               // [A + B, stride]: unit rows, those of A first
  unsigned long long* best;  // [A]: the best proposal of each token of A
  float* score;              // [A]: ranks the pairs
  int* merged_away;          // [A]
  int* usable;               // [A + B]: whether the row has a direction
};

/// Floats between the starts of two rows. 8 rows of 8 neighbouring channels, which a warp reads
/// together, then lie in different banks of shared memory.
__host__ __device__ constexpr int64_t match_row_stride(int64_t channels) {
  const int64_t padded = (channels + 7) / 8 * 8;
  return padded % 16 == 0 ? padded + 8 : padded;
}

// A proposal packs a similarity and the index of a token of B into one integer. The larger of two
// proposals has the higher similarity or, when these are equal, the lower index. So the maximum
// does not depend on which thread comes first.

__device__ inline unsigned long long proposal(float similarity, int index) {
  similarity += 0.0f;  // makes a negative zero equal to a positive one
  unsigned bits;
  memcpy(&bits, &similarity, sizeof bits);
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (static_cast<unsigned long long>(bits) << 32) |
         (0xffffffffu - static_cast<unsigned>(index));
}

__device__ inline float similarity_of(unsigned long long proposal) {
  auto bits = static_cast<unsigned>(proposal >> 32);
  bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
  float similarity;
  memcpy(&similarity, &bits, sizeof similarity);
  return similarity;
}

__device__ inline int partner_of(unsigned long long proposal) {
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(proposal));
}

/// Writes the mean over the heads of `count` tokens' keys to their rows.
/// \param token_at, row_at  The keys, and the row, of the token at a place of the group.
template <int kPack, int kThreads, typename T, typename TokenAt, typename RowAt>
__device__ inline void write_means(
    const Keys<T>& keys, int count, const TokenAt& token_at, const RowAt& row_at) {
  const int packs = keys.channels / kPack;
  const auto heads = static_cast<float>(keys.heads);
  for (int i = static_cast<int>(threadIdx.x); i < count * packs; i += kThreads) {
    const int place = i / packs, c = i % packs * kPack;
    const T* own = token_at(place) + c;
    float sum[kPack] = {};
    for (int first = 0; first < keys.heads; first += kHeadsAtOnce) {
      Pack<T, kPack> read[kHeadsAtOnce] = {};
      DSM_EXT_UNROLL
      for (int h = 0; h < kHeadsAtOnce; ++h) {
        if (first + h < keys.heads) {
          read[h] = pack<kPack>(own + (first + h) * keys.head);
        }
      }
      DSM_EXT_UNROLL
      for (int h = 0; h < kHeadsAtOnce; ++h) {
        if (first + h < keys.heads) {
          for (int k = 0; k < kPack; ++k) {
            sum[k] += static_cast<float>(read[h].at[k]);
          }
        }
      }
    }
    Pack<float, kPack> mean;
    for (int k = 0; k < kPack; ++k) {
      mean.at[k] = sum[k] / heads;
    }
    pack<kPack>(row_at(place) + c) = mean;
  }
}

/// Gives a row unit length, and zeros behind its last channel. The squares are summed in double:
/// there the squares of a finite float32 row neither overflow nor vanish.
/// \return  False for a zero-length or non-finite row, which becomes zero.
__device__ inline bool to_unit_length(float* row, int channels) {
  const auto stride = static_cast<int>(match_row_stride(channels));
  for (int d = channels; d < stride; ++d) {
    row[d] = 0;
  }
  double sums[kChannels] = {};  // independent, so that one sum does not wait for another
  for (int d = 0; d < channels; d += kChannels) {
    const auto values = pack<kChannels>(row + d);
    for (int k = 0; k < kChannels; ++k) {
      sums[k] += static_cast<double>(values.at[k]) * values.at[k];
    }
  }
  const double squares = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  const bool usable = squares > 0 && isfinite(squares);
  const double scale = usable ? 1 / sqrt(squares) : 0;
  for (int d = 0; d < channels; d += kChannels) {
    auto& values = pack<kChannels>(row + d);
    for (int k = 0; k < kChannels; ++k) {
      values.at[k] = usable ? static_cast<float>(values.at[k] * scale) : 0.f;
    }
  }
  return usable;
}

/// A float32 as the sum of two TF32 values, exact to 2^-23 of it.
struct Split {
  __device__ explicit Split(float x)
      : high(rounded_to_tf32(x)), low(rounded_to_tf32(x - tf32_of(high))) {}

  uint32_t high, low;
};

/// Finds the best proposal of every token of A. `best` must hold proposals of similarity minus
/// infinity, which stay where a row has no direction.
///
/// A warp computes the similarities of 16 rows of A with 8 * kTilesOfB of B on tensor cores. Each
/// value is split into two of TF32, and three of the four products are summed: the fourth is below
/// float32's rounding. The products of 8 channels are summed by themselves, and these sums are
/// added in float32. So the result is about as exact as a sum in float32, and equal rows have equal
/// similarities.
/// \tparam kThreads  Threads of the block.
template <int kThreads>
__device__ inline void propose(const MatchState& state, int channels) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int r = lane / 4, t = lane % 4;
  const int a_count = state.a_count, b_count = state.b_count;
  const int tiles = (a_count + 15) / 16;
  const int parts = (b_count + 8 * kTilesOfB - 1) / (8 * kTilesOfB);
  // A row beyond the last is the last row again, and its result is dropped.
  const auto row_of = [&](int i, int count) {
    return state.rows + (i < count ? i : count - 1) * state.stride;
  };
  for (int share = warp; share < tiles * parts; share += kThreads / 32) {
    const int a0 = share % tiles * 16, b0 = share / tiles * 8 * kTilesOfB;
    const float* upper = row_of(a0 + r, a_count) + 2 * t;
    const float* lower = row_of(a0 + 8 + r, a_count) + 2 * t;
    const float* b_rows = state.rows + a_count * state.stride + 2 * t;
    int b_offsets[kTilesOfB];
    float similarity[kTilesOfB][4] = {};
    DSM_EXT_UNROLL
    for (int tile = 0; tile < kTilesOfB; ++tile) {
      const int j = b0 + 8 * tile + r;
      b_offsets[tile] = (j < b_count ? j : b_count - 1) * static_cast<int>(state.stride);
    }
    for (int d = 0; d < channels; d += 8) {
      // Of 8 channels, lane t has 2 t and 2 t + 1, which take the places of the columns t and t
      // + 4.
      const auto above = pack<2>(upper + d), below = pack<2>(lower + d);
      const Split splits[4] = {
          Split(above.at[0]), Split(below.at[0]), Split(above.at[1]), Split(below.at[1])};
      const uint32_t high[4] = {splits[0].high, splits[1].high, splits[2].high, splits[3].high};
      const uint32_t low[4] = {splits[0].low, splits[1].low, splits[2].low, splits[3].low};
      DSM_EXT_UNROLL
      for (int tile = 0; tile < kTilesOfB; ++tile) {
        if (b0 + 8 * tile >= b_count) {
          continue;
        }
        const auto b = pack<2>(b_rows + b_offsets[tile] + d);
        const Split first(b.at[0]), second(b.at[1]);
        float sum[4] = {};
        multiply_add_tf32(sum, high, first.low, second.low);
        multiply_add_tf32(sum, low, first.high, second.high);
        multiply_add_tf32(sum, high, first.high, second.high);
        for (int i = 0; i < 4; ++i) {
          similarity[tile][i] += sum[i];
        }
      }
    }
    unsigned long long best[2] = {proposal(-INFINITY, 0), proposal(-INFINITY, 0)};
    DSM_EXT_UNROLL
    for (int tile = 0; tile < kTilesOfB; ++tile) {
      for (int i = 0; i < 4; ++i) {
        const int j = b0 + 8 * tile + 2 * t + i % 2;
        if (j < b_count && state.usable[a_count + j]) {
          const auto other = proposal(similarity[tile][i], j);
          best[i / 2] = other > best[i / 2] ? other : best[i / 2];
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      for (int other = 1; other <= 2; other *= 2) {
        const auto theirs = __shfl_xor_sync(kAllLanes, best[half], other);
        best[half] = theirs > best[half] ? theirs : best[half];
      }
      const int i = a0 + 8 * half + r;
      if (t == 0 && i < a_count && state.usable[i]) {
        atomicMax(&state.best[i], best[half]);
      }
    }
  }
}

/// What ranks a token of A and its partner. A further `MergeScore` adds a case here.
__device__ inline float pair_score(MergeScore score, float similarity) {
  switch (score) {
    case MergeScore::similarity:
      break;
  }
  return similarity;
}

/// Marks the `r` tokens of A whose pairs have the highest scores; of equal scores the lower index
/// comes first. Each thread counts how many pairs come before its own.
template <int kThreads>
__device__ inline void select(const MatchState& state, int r, MergeScore score) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < state.a_count; i += kThreads) {
    state.score[i] = pair_score(score, similarity_of(state.best[i]));
  }
  __syncthreads();
  for (int i = thread; i < state.a_count; i += kThreads) {
    int rank = 0;
    for (int k = 0; k < state.a_count; ++k) {
      rank += state.score[k] > state.score[i] || (state.score[k] == state.score[i] && k < i);
    }
    state.merged_away[i] = rank < r;
  }
}

}  // namespace dsm_ext::cuda
