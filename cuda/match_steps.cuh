#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "rows.cuh"

// The steps of matching one group, each done by all threads of a block together: unit rows,
// propose, select. The caller puts a barrier between two steps. match_kernel.cuh says what they
// share.

namespace dsm_ext::cuda {

constexpr int kChannels = 4;     // channels that a thread reads at once
constexpr int kHeadsAtOnce = 8;  // heads that a thread reads before it waits for memory
constexpr int kStepOfB = 16;     // a thread's rows of B lie this far apart

/// Threads of a block. A small group gives a thread fewer pairs, and takes fewer threads.
/// \tparam kShare  Rows of A, and of B, that a thread has at a time.
template <int kShare>
constexpr int kMatchThreads = kShare <= 2 ? 256 : 512;

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
  for (int d = 0; d < stride; d += kChannels) {
    const auto values = pack<kChannels>(row + d);
    for (int k = 0; k < kChannels; ++k) {
      sums[k] += static_cast<double>(values.at[k]) * values.at[k];
    }
  }
  const double squares = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  const bool usable = squares > 0 && isfinite(squares);
  const double scale = usable ? 1 / sqrt(squares) : 0;
  for (int d = 0; d < stride; d += kChannels) {
    auto& values = pack<kChannels>(row + d);
    for (int k = 0; k < kChannels; ++k) {
      values.at[k] = usable ? static_cast<float>(values.at[k] * scale) : 0.f;
    }
  }
  return usable;
}

/// Finds the best proposal of every token of A. It is of similarity minus infinity when the token
/// or all of B have no direction.
///
/// The block computes a tile of similarities at a time, and a thread kShare x kShare of them in
/// registers. One thread sums a similarity over the channels in their order, so equal rows have
/// equal similarities. The kStepOfB threads that share their rows of A are neighbours in a warp,
/// and no other thread has these rows.
template <int kShare>
__device__ inline void propose(const MatchState& state, int channels) {
  constexpr int kStepOfA = kMatchThreads<kShare> / kStepOfB;
  constexpr int kTileOfA = kStepOfA * kShare, kTileOfB = kStepOfB * kShare;
  const int thread = static_cast<int>(threadIdx.x);
  const int own_a = thread / kStepOfB, own_b = thread % kStepOfB;
  const int a_count = state.a_count, b_count = state.b_count;
  for (int a0 = 0; a0 < a_count; a0 += kTileOfA) {
    // A share beyond the last row computes the last row again, and its result is dropped.
    const float *a_rows[kShare], *b_rows[kShare];
    unsigned long long best[kShare];
    for (int k = 0; k < kShare; ++k) {
      const int i = a0 + own_a + k * kStepOfA;
      a_rows[k] = state.rows + (i < a_count ? i : a_count - 1) * state.stride;
      best[k] = proposal(-INFINITY, 0);
    }
    for (int b0 = 0; b0 < b_count; b0 += kTileOfB) {
      for (int l = 0; l < kShare; ++l) {
        const int j = b0 + own_b + l * kStepOfB;
        b_rows[l] = state.rows + (a_count + (j < b_count ? j : b_count - 1)) * state.stride;
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
      for (int l = 0; l < kShare; ++l) {
        const int j = b0 + own_b + l * kStepOfB;
        if (j < b_count && state.usable[a_count + j]) {
          for (int k = 0; k < kShare; ++k) {
            const auto other = proposal(similarity[k][l], j);
            best[k] = other > best[k] ? other : best[k];
          }
        }
      }
    }
    for (int k = 0; k < kShare; ++k) {
      for (int other = kStepOfB / 2; other > 0; other /= 2) {
        const auto theirs = __shfl_xor_sync(kAllLanes, best[k], other);
        best[k] = theirs > best[k] ? theirs : best[k];
      }
      const int i = a0 + own_a + k * kStepOfA;
      if (own_b == 0 && i < a_count) {
        state.best[i] = state.usable[i] ? best[k] : proposal(-INFINITY, 0);
      }
    }
  }
}

/// What ranks a token of A and its partner. A NaN ranks last, because ranks need an order.
__device__ inline float pair_score(float similarity, float penalty) {
  const float score = similarity - penalty;
  return isnan(score) ? -INFINITY : score;
}

/// Marks the `r` tokens of A whose pairs have the highest scores; of equal scores the lower index
/// comes first. Each thread counts how many pairs come before its own.
/// \param penalty_of  The penalty of a token of A.
template <int kThreads, typename PenaltyOf>
__device__ inline void select(const MatchState& state, int r, const PenaltyOf& penalty_of) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < state.a_count; i += kThreads) {
    state.score[i] = pair_score(similarity_of(state.best[i]), penalty_of(i));
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
