#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Bipartite soft matching on a GPU: one block of threads for each group (an image, or one window of
// an image), and nothing but the destinations is written. Scores are a product of A's unit rows
// with B's: 64 x 64 of them at a time, 4 x 4 to a thread in registers, over 32 channels that lie in
// shared memory, brought to unit length as they are loaded. A score is summed by one thread over
// the channels in their order, so equal rows score equally. A token's best partner is the largest
// of keys whose upper half orders by score and whose lower half prefers the lower index: whichever
// thread comes first, the result is the same. The r best tokens are found by counting ranks.
//
// Shared memory: 17 KB, and 8 bytes for each token and 16 more for each of A's. Bytes moved: each
// row of the metric once for every 64 rows that it is paired with, from cache but for the first
// time; at 197 tokens of 64 channels 100 KB, against 1.2 million multiply-adds.

namespace dsm_ext::cuda {

struct GroupShape {
  int32_t begin;   // of the group's tokens in the window-major order
  int32_t tokens;  // T
  int32_t r;       // tokens to remove
  int32_t base;    // of the group's output
};

// As many as a kernel's parameters hold beside the others; more of them lie in the device's memory.
struct Groups {
  static constexpr int kHeld = 200;
  int32_t count;
  const GroupShape* more;  // all of them, or null
  GroupShape held[kHeld];
};

constexpr int kMatchThreads = 256;
constexpr int kTile = 64;   // tokens of A, and of B, whose scores are computed together
constexpr int kShare = 4;   // of each of them for a thread
constexpr int kDepth = 32;  // channels that are loaded together
constexpr int kStep = kTile / kShare;

constexpr int64_t kMatchStaticBytes = 2 * kTile * (kDepth + 1) * sizeof(float);

static_assert(kStep * kStep == kMatchThreads);

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

// Bytes of dynamic shared memory for a group.
constexpr int64_t match_shared_bytes(int64_t tokens) {
  const int64_t a = tokens / 2 + 1;
  return tokens * static_cast<int64_t>(sizeof(double)) +
         a * static_cast<int64_t>(sizeof(unsigned long long) + sizeof(float) + sizeof(int));
}

template <typename T>
__global__ void match_kernel_impl(
    const T* __restrict__ metric,       // [B, N, D]
    const int32_t* __restrict__ order,  // [N - P] or null
    const Groups groups, int64_t tokens, int64_t dim, int64_t prefix, bool global,
    int32_t* __restrict__ destination) {       // [B, N]
  __shared__ float tile_a[kTile][kDepth + 1];  // one more, so that a column lies in all banks
  __shared__ float tile_b[kTile][kDepth + 1];
  DSM_EXT_DYNAMIC_SHARED(double, scale);  // [T]: one over the length; 0 for a row matched last

  const int64_t image = blockIdx.x / groups.count;
  const int which = static_cast<int>(blockIdx.x % groups.count);
  const GroupShape group = groups.more == nullptr ? groups.held[which] : groups.more[which];
  const int n = group.tokens, thread = static_cast<int>(threadIdx.x);
  metric += image * tokens * dim;
  destination += image * tokens;

  // A global step counts positions over the whole sequence, so that an odd prefix makes B first.
  const int first_a = global ? static_cast<int>(prefix % 2) : 0;
  const int first_b = 1 - first_a;
  const int a_count = (n - first_a + 1) / 2;
  const int b_count = n - a_count;
  auto* best = reinterpret_cast<unsigned long long*>(scale + n);  // [A]
  auto* similarity = reinterpret_cast<float*>(best + a_count);    // [A]
  auto* kept = reinterpret_cast<int*>(similarity + a_count);      // [A]
  const auto token = [&](int place) {
    const int64_t grid = group.begin + place;
    const int64_t at = order == nullptr ? grid : order[grid];
    // stays in bounds, whatever stands in `order`
    return prefix + (at >= 0 && at < tokens - prefix ? at : grid);
  };

  // A warp sums the squares of a row, in double: those of any finite row neither overflow nor
  // vanish.
  const int lane = thread % 32;
  for (int i = thread / 32; i < n; i += kMatchThreads / 32) {
    const T* row = metric + token(i) * dim;
    double squares = 0;
    for (int64_t d = lane; d < dim; d += 32) {
      const double value = static_cast<float>(row[d]);
      squares += value * value;
    }
    for (int other = 16; other > 0; other /= 2) {
      squares += __shfl_xor_sync(0xffffffffu, squares, other);
    }
    if (lane == 0) {
      scale[i] = squares > 0 && isfinite(squares) ? 1 / sqrt(squares) : 0;
    }
  }
  for (int i = thread; i < a_count; i += kMatchThreads) {
    best[i] = match_key(-INFINITY, 0);
  }
  __syncthreads();

  const int own_a = thread / kStep, own_b = thread % kStep;
  for (int a0 = 0; a0 < a_count; a0 += kTile) {
    for (int b0 = 0; b0 < b_count; b0 += kTile) {
      float score[kShare][kShare] = {};
      for (int64_t d0 = 0; d0 < dim; d0 += kDepth) {
        for (int e = thread; e < 2 * kTile * kDepth; e += kMatchThreads) {
          const bool of_a = e < kTile * kDepth;
          const int row = e / kDepth % kTile, d = e % kDepth;
          const int i = (of_a ? a0 : b0) + row;
          float value = 0;
          if (i < (of_a ? a_count : b_count) && d0 + d < dim) {
            const int place = 2 * i + (of_a ? first_a : first_b);
            const double length = scale[place];
            if (length != 0) {  // such a row may hold NaN
              value = static_cast<float>(
                  static_cast<float>(metric[token(place) * dim + d0 + d]) * length);
            }
          }
          (of_a ? tile_a : tile_b)[row][d] = value;
        }
        __syncthreads();
        const int depth = dim - d0 < kDepth ? static_cast<int>(dim - d0) : kDepth;
        for (int d = 0; d < depth; ++d) {
          float a[kShare], b[kShare];
          for (int k = 0; k < kShare; ++k) {
            a[k] = tile_a[own_a + k * kStep][d];
            b[k] = tile_b[own_b + k * kStep][d];
          }
          for (int i = 0; i < kShare; ++i) {
            for (int j = 0; j < kShare; ++j) {
              score[i][j] += a[i] * b[j];
            }
          }
        }
        __syncthreads();
      }
      for (int k = 0; k < kShare; ++k) {
        const int i = a0 + own_a + k * kStep;
        if (i >= a_count || scale[2 * i + first_a] == 0) {
          continue;
        }
        unsigned long long mine = match_key(-INFINITY, 0);
        for (int l = 0; l < kShare; ++l) {
          const int j = b0 + own_b + l * kStep;
          if (j < b_count && scale[2 * j + first_b] != 0) {
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
  if (which == 0) {
    for (int i = thread; i < prefix; i += kMatchThreads) {
      destination[i] = i;
    }
  }
}

}  // namespace dsm_ext::cuda
