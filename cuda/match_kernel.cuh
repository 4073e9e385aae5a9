#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "rows.cuh"

// Bipartite soft matching on a GPU: one block of threads for each group (an image, or one window of
// an image), and nothing but the destinations is written. A warp reads a token's keys, takes their
// mean over the heads, and leaves it in shared memory at unit length. Scores are a product of A's
// rows with B's: kTile x kTile of them at a time, kShare x kShare to a thread in registers. A score
// is summed by one thread over the channels in their order, so equal rows score equally. A token's
// best partner is the largest of keys whose upper half orders by score and whose lower half prefers
// the lower index: whichever thread comes first, the result is the same. The r best tokens are
// found by counting ranks.
//
// Shared memory: 4 bytes for each channel of each token, 4 for each token and 16 more for each of
// A's; where that is more than there is, the rows lie in the device's memory instead. Bytes moved:
// the keys once. At 197 tokens of 6 heads of 64 channels 151 KB an image, against 0.6 million
// multiply-adds.

namespace dsm_ext::cuda {

struct GroupShape {
  int32_t begin;   // of the group's tokens in the window-major order
  int32_t tokens;  // T
  int32_t r;       // tokens to remove
  int32_t base;    // of the group's output
};

/// As many as a kernel's parameters hold beside the others; more take more launches.
struct Groups {
  static constexpr int kHeld = 200;
  int32_t count;
  bool first;  // of the launches, which also places the prefix
  GroupShape held[kHeld];
};

/// What is matched: each token's keys, whose mean over the heads is the metric.
template <typename T>
struct Keys {
  const T* data;
  int64_t image, head, token;  // strides in elements; channels lie side by side
  int32_t heads, channels;     // H, D
};

constexpr int kMatchThreads = 256;
constexpr int kStep = 16;     // between the rows of a thread's share; kStep^2 threads
constexpr int kChannels = 4;  // that are read at once

static_assert(kStep * kStep == kMatchThreads);

/// Floats between the starts of rows: such that eight rows' neighbouring channels lie in all banks.
__host__ __device__ constexpr int64_t match_row_stride(int64_t channels) {
  const int64_t padded = (channels + kChannels - 1) / kChannels * kChannels;
  return padded % 8 == 0 ? padded + kChannels : padded;
}

/// Bytes that the rows of a group take.
constexpr int64_t match_row_bytes(int64_t tokens, int64_t channels) {
  return tokens * match_row_stride(channels) * static_cast<int64_t>(sizeof(float));
}

/// Bytes of dynamic shared memory for a group beside its rows.
constexpr int64_t match_shared_bytes(int64_t tokens) {
  const int64_t a = tokens / 2 + 1;
  return a * static_cast<int64_t>(sizeof(unsigned long long) + sizeof(float) + sizeof(int)) +
         tokens * static_cast<int64_t>(sizeof(int));
}

// Orders as floats do, so that the largest key is the highest score's with the lowest index.
__device__ inline unsigned long long match_key(float score, int index) {
  score += 0.0f;  // a negative zero equals a positive one
  unsigned bits;
  memcpy(&bits, &score, sizeof bits);
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (static_cast<unsigned long long>(bits) << 32) |
         (0xffffffffu - static_cast<unsigned>(index));
}

__device__ inline float match_score(unsigned long long key) {
  auto bits = static_cast<unsigned>(key >> 32);
  bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

__device__ inline int match_index(unsigned long long key) {
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(key));
}

/// A token's metric at unit length, zeros behind its channels. The squares are summed in double:
/// those of any finite row neither overflow nor vanish.
/// \return  Whether it has a direction. One that has none is matched last; its row is zero.
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

/// \tparam kShare  Rows of A, and of B, to a thread at a time: 2 for groups of up to 64 tokens.
template <typename T, int kShare>
__global__ void match_kernel_impl(
    const Keys<T> keys,
    const int32_t* __restrict__ order,  // [N - P] or null
    const Groups groups, int64_t tokens, int64_t prefix, bool global,
    float* spill,  // null: rows lie in shared memory; else `spill_stride` for a block
    int64_t spill_stride,
    int32_t* __restrict__ destination) {  // [B, N]
  constexpr int kTile = kStep * kShare;
  DSM_EXT_DYNAMIC_SHARED(float, held);

  const int64_t image = blockIdx.x / groups.count;
  const int which = static_cast<int>(blockIdx.x % groups.count);
  const GroupShape group = groups.held[which];
  const int n = group.tokens, thread = static_cast<int>(threadIdx.x);
  destination += image * tokens;

  // A global step counts positions over the whole sequence, so that an odd prefix makes B first.
  const int first_a = global ? static_cast<int>(prefix % 2) : 0;
  const int first_b = 1 - first_a;
  const int a_count = (n - first_a + 1) / 2;
  const int b_count = n - a_count;
  const int64_t stride = match_row_stride(keys.channels);
  float* rows = spill == nullptr ? held : spill + blockIdx.x * spill_stride;  // A's, then B's
  float* behind = spill == nullptr ? held + n * stride : held;
  auto* best = reinterpret_cast<unsigned long long*>(behind);   // [A]
  auto* similarity = reinterpret_cast<float*>(best + a_count);  // [A]
  auto* kept = reinterpret_cast<int*>(similarity + a_count);    // [A]
  auto* usable = kept + a_count;                                // A's, then B's
  const auto slot = [&](int place) { return place / 2 + (place % 2 == first_a ? 0 : a_count); };
  const auto token = [&](int place) {
    const int64_t grid = group.begin + place;
    const int64_t at = order == nullptr ? grid : order[grid];
    // stays in bounds, whatever stands in `order`
    return prefix + (at >= 0 && at < tokens - prefix ? at : grid);
  };

  for (int i = thread / 32; i < n; i += kMatchThreads / 32) {
    const T* own = keys.data + image * keys.image + token(i) * keys.token;
    const bool is_usable = unit_row(own, keys, rows + slot(i) * stride);
    if (thread % 32 == 0) {
      usable[slot(i)] = is_usable;
    }
  }
  for (int i = thread; i < a_count; i += kMatchThreads) {
    best[i] = match_key(-INFINITY, 0);
  }
  __syncthreads();

  const int own_a = thread / kStep, own_b = thread % kStep;
  for (int a0 = 0; a0 < a_count; a0 += kTile) {
    for (int b0 = 0; b0 < b_count; b0 += kTile) {
      // Shares behind the last row compute its scores again, and drop them.
      const float *a_rows[kShare], *b_rows[kShare];
      for (int k = 0; k < kShare; ++k) {
        const int i = a0 + own_a + k * kStep, j = b0 + own_b + k * kStep;
        a_rows[k] = rows + (i < a_count ? i : a_count - 1) * stride;
        b_rows[k] = rows + (a_count + (j < b_count ? j : b_count - 1)) * stride;
      }
      float score[kShare][kShare] = {};
      for (int d = 0; d < keys.channels; d += kChannels) {
        Pack<float, kChannels> a[kShare], b[kShare];
        for (int k = 0; k < kShare; ++k) {
          a[k] = pack<kChannels>(a_rows[k] + d);
          b[k] = pack<kChannels>(b_rows[k] + d);
        }
        for (int c = 0; c < kChannels; ++c) {
          for (int i = 0; i < kShare; ++i) {
            for (int j = 0; j < kShare; ++j) {
              score[i][j] += a[i].at[c] * b[j].at[c];
            }
          }
        }
      }
      for (int k = 0; k < kShare; ++k) {
        const int i = a0 + own_a + k * kStep;
        if (i >= a_count || !usable[i]) {
          continue;
        }
        unsigned long long mine = match_key(-INFINITY, 0);
        for (int l = 0; l < kShare; ++l) {
          const int j = b0 + own_b + l * kStep;
          if (j < b_count && usable[a_count + j]) {
            const auto key = match_key(score[k][l], j);
            mine = key > mine ? key : mine;
          }
        }
        atomicMax(&best[i], mine);
      }
    }
  }
  __syncthreads();

  for (int i = thread; i < a_count; i += kMatchThreads) {
    similarity[i] = match_score(best[i]);
  }
  __syncthreads();
  for (int i = thread; i < a_count; i += kMatchThreads) {
    int rank = 0;
    for (int k = 0; k < a_count; ++k) {
      rank += similarity[k] > similarity[i] || (similarity[k] == similarity[i] && k < i);
    }
    kept[i] = rank < group.r;
  }
  __syncthreads();

  const int base_b = group.base + a_count - group.r;
  for (int j = thread; j < b_count; j += kMatchThreads) {
    destination[token(2 * j + first_b)] = base_b + j;
  }
  for (int i = thread; i < a_count; i += kMatchThreads) {
    int before = 0;  // unmerged tokens of A in front of this one
    for (int k = 0; k < i; ++k) {
      before += !kept[k];
    }
    destination[token(2 * i + first_a)] =
        kept[i] ? base_b + match_index(best[i]) : group.base + before;
  }
  if (groups.first && which == 0) {
    for (int i = thread; i < prefix; i += kMatchThreads) {
      destination[i] = i;
    }
  }
}

}  // namespace dsm_ext::cuda
