#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "dsm_ext/merge_rule.h"
#include "rows.cuh"

// The steps of matching one group, each done by all threads of a block together: unit rows,
// propose, select. The caller puts a barrier between two steps. match_kernel.cuh says what they
// share.

namespace dsm_ext::cuda {

constexpr int kMatchThreads = 256;
constexpr int kStep = 16;     // a thread's rows of A, and of B, lie this far apart
constexpr int kChannels = 4;  // channels that a thread reads at once

static_assert(kStep * kStep == kMatchThreads);

/// What is matched: each token's keys. Their mean over the heads is the metric.
template <typename T>
struct Keys {
  const T* data;
  int64_t image, head, token;  // strides in elements; channels lie side by side
  int32_t heads, channels;     // H, D
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

/// Floats between the starts of two rows. Neighbouring channels of eight rows then lie in different
/// banks of shared memory.
__host__ __device__ constexpr int64_t match_row_stride(int64_t channels) {
  const int64_t padded = (channels + kChannels - 1) / kChannels * kChannels;
  return padded % 8 == 0 ? padded + kChannels : padded;
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

/// A warp writes a token's metric at unit length, and zeros in the padding. The squares are summed
/// in double: there the squares of a finite float32 row neither overflow nor vanish.
/// \return  False for a zero-length or non-finite row, which becomes zero.
template <typename T>
__device__ inline bool unit_row(const T* keys, const Keys<T>& shape, float* row) {
  const int lane = static_cast<int>(threadIdx.x) % 32, channels = shape.channels;
  double squares = 0;
  for (int d = lane; d < channels; d += 32) {
    float sum = 0;
    for (int h = 0; h < shape.heads; ++h) {
      sum += static_cast<float>(keys[h * shape.head + d]);
    }
    row[d] = sum / static_cast<float>(shape.heads);
    squares += static_cast<double>(row[d]) * row[d];
  }
  squares = warp_sum(squares);
  const bool usable = squares > 0 && isfinite(squares);
  const double scale = usable ? 1 / sqrt(squares) : 0;
  for (int d = lane; d < match_row_stride(channels); d += 32) {
    row[d] = usable && d < channels ? static_cast<float>(row[d] * scale) : 0.f;
  }
  return usable;
}

/// Finds the best proposal of every token of A. `best` must hold proposals of similarity minus
/// infinity, which stay where a row has no direction.
///
/// The block computes kTile x kTile similarities at a time, and a thread kShare x kShare of them in
/// registers. One thread sums a similarity over the channels in their order, so equal rows have
/// equal similarities.
/// \tparam kShare  How many rows of A, and of B, a thread has at a time.
template <int kShare>
__device__ inline void propose(const MatchState& state, int channels) {
  constexpr int kTile = kStep * kShare;
  const int thread = static_cast<int>(threadIdx.x);
  const int own_a = thread / kStep, own_b = thread % kStep;
  const int a_count = state.a_count, b_count = state.b_count;
  for (int a0 = 0; a0 < a_count; a0 += kTile) {
    for (int b0 = 0; b0 < b_count; b0 += kTile) {
      // A share beyond the last row computes the last row again, and its result is dropped.
      const float *a_rows[kShare], *b_rows[kShare];
      for (int k = 0; k < kShare; ++k) {
        const int i = a0 + own_a + k * kStep, j = b0 + own_b + k * kStep;
        a_rows[k] = state.rows + (i < a_count ? i : a_count - 1) * state.stride;
        b_rows[k] = state.rows + (a_count + (j < b_count ? j : b_count - 1)) * state.stride;
      }
      float similarity[kShare][kShare] = {};
      for (int d = 0; d < channels; d += kChannels) {
        Pack<float, kChannels> a[kShare], b[kShare];
        for (int k = 0; k < kShare; ++k) {
          a[k] = pack<kChannels>(a_rows[k] + d);
          b[k] = pack<kChannels>(b_rows[k] + d);
        }
        for (int c = 0; c < kChannels; ++c) {
          for (int i = 0; i < kShare; ++i) {
            for (int j = 0; j < kShare; ++j) {
              similarity[i][j] += a[i].at[c] * b[j].at[c];
            }
          }
        }
      }
      for (int k = 0; k < kShare; ++k) {
        const int i = a0 + own_a + k * kStep;
        if (i >= a_count || !state.usable[i]) {
          continue;
        }
        unsigned long long mine = proposal(-INFINITY, 0);
        for (int l = 0; l < kShare; ++l) {
          const int j = b0 + own_b + l * kStep;
          if (j < b_count && state.usable[a_count + j]) {
            const auto other = proposal(similarity[k][l], j);
            mine = other > mine ? other : mine;
          }
        }
        atomicMax(&state.best[i], mine);
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
__device__ inline void select(const MatchState& state, int r, MergeScore score) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < state.a_count; i += kMatchThreads) {
    state.score[i] = pair_score(score, similarity_of(state.best[i]));
  }
  __syncthreads();
  for (int i = thread; i < state.a_count; i += kMatchThreads) {
    int rank = 0;
    for (int k = 0; k < state.a_count; ++k) {
      rank += state.score[k] > state.score[i] || (state.score[k] == state.score[i] && k < i);
    }
    state.merged_away[i] = rank < r;
  }
}

}  // namespace dsm_ext::cuda
