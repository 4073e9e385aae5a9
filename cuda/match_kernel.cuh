#pragma once

#include <cmath>
#include <cstdint>

// Bipartite soft matching on a GPU: one block of threads for each group (an image, or one window
// of an image), and everything but the metric in shared memory: a scale for each token, zero
// where its row is matched last, and a similarity, a partner and whether it merges for each token
// of A (20 bytes a token). A thread owns a token
// of A, and sums each score over the channels in their order, so equal rows score equally. The
// metric is read T/2 times, from cache: this is the plain version, right before it is quick.

namespace dsm_ext::cuda {

struct GroupShape {
  int64_t begin;   // of the group's tokens in the window-major order
  int64_t tokens;  // T
  int64_t r;       // tokens to remove
  int64_t base;    // of the group's output
};

template <typename T>
__global__ void match_kernel_impl(
    const T* __restrict__ metric,       // [B, N, D]
    const int32_t* __restrict__ order,  // [N - P] or null
    const GroupShape* __restrict__ groups, int64_t count, int64_t tokens, int64_t dim,
    int64_t prefix, bool global, int32_t* __restrict__ destination) {  // [B, N]
  extern __shared__ double shared[];
  const int64_t image = blockIdx.x / count;
  const GroupShape group = groups[blockIdx.x % count];
  const auto n = static_cast<int>(group.tokens);
  double* scale = shared;                                   // [T]; 0 for a row that is matched last
  float* similarity = reinterpret_cast<float*>(scale + n);  // [A]
  int* partner = reinterpret_cast<int*>(similarity + n);
  int* kept = partner + n;
  metric += image * tokens * dim;
  destination += image * tokens;

  // A global step counts positions over the whole sequence, so that an odd prefix makes B first.
  const int first_a = global ? static_cast<int>(prefix % 2) : 0;
  const int first_b = 1 - first_a;
  const int a_count = (n - first_a + 1) / 2;
  const int b_count = n - a_count;
  const auto token = [&](int place) {
    const int64_t grid = group.begin + place;
    const int64_t at = order == nullptr ? grid : order[grid];
    return prefix +
           (at >= 0 && at < tokens - prefix ? at : grid);  // stays in bounds, whatever it is
  };

  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const T* row = metric + token(i) * dim;
    double squares = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const double value = static_cast<float>(row[d]);
      squares += value * value;
    }
    scale[i] = squares > 0 && isfinite(squares) ? 1 / sqrt(squares) : 0;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    const int place = 2 * i + first_a;
    const T* row = metric + token(place) * dim;
    float best = -INFINITY;
    int best_b = 0;
    for (int j = 0; scale[place] != 0 && j < b_count; ++j) {
      const int other = 2 * j + first_b;
      if (scale[other] == 0) {
        continue;
      }
      const T* column = metric + token(other) * dim;
      float score = 0;
      for (int64_t d = 0; d < dim; ++d) {
        score += static_cast<float>(static_cast<float>(row[d]) * scale[place]) *
                 static_cast<float>(static_cast<float>(column[d]) * scale[other]);
      }
      if (score > best) {
        best = score;
        best_b = j;
      }
    }
    similarity[i] = best;
    partner[i] = best_b;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    int rank = 0;
    for (int k = 0; k < a_count; ++k) {
      rank += similarity[k] > similarity[i] || (similarity[k] == similarity[i] && k < i);
    }
    kept[i] = rank < group.r;
  }
  __syncthreads();

  const int64_t base_b = group.base + a_count - group.r;
  for (int j = threadIdx.x; j < b_count; j += blockDim.x) {
    destination[token(2 * j + first_b)] = static_cast<int32_t>(base_b + j);
  }
  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    int before = 0;  // unmerged tokens of A in front of this one
    for (int k = 0; k < i; ++k) {
      before += !kept[k];
    }
    destination[token(2 * i + first_a)] =
        static_cast<int32_t>(kept[i] ? base_b + partner[i] : group.base + before);
  }
  if (blockIdx.x % count == 0) {
    for (int i = threadIdx.x; i < prefix; i += blockDim.x) {
      destination[i] = i;
    }
  }
}

}  // namespace dsm_ext::cuda
