#pragma once

#include <cmath>
#include <cstdint>

#include "groups.h"
#include "match_steps.cuh"

// Bipartite soft matching on a GPU (ToMe, arXiv 2210.09461, section 3). A block of threads matches
// one group, which is an image or one window of an image, and writes its destinations alone.
//
// The threads of the block take the means of the keys over the heads, write them to shared memory
// and give them unit length. Then they propose a partner for each token of A, and select the pairs
// that merge. Results do not depend on the order in which threads run.
//
// Shared memory: 4 bytes for each channel of each token, 4 for each token, and 16 more for each
// token of A. When the rows do not fit, they lie in the device's memory instead. Bytes moved: the
// keys once. 197 tokens of 6 heads of 64 channels are 151 KB (in bfloat16) and 0.6 million
// multiply-adds an image.

namespace dsm_ext::cuda {

/// The groups of one launch. A kernel's parameters have room for kHeld of them; a step of more
/// groups takes several launches.
struct Groups {
  static constexpr int kHeld = 200;
  int32_t count;
  bool first;  // whether this is the step's first launch, which also places the prefix
  GroupShape held[kHeld];
};

/// Bytes that the rows of a group take.
constexpr int64_t match_row_bytes(int64_t tokens, int64_t channels) {
  return tokens * match_row_stride(channels) * static_cast<int64_t>(sizeof(float));
}

/// Bytes of dynamic shared memory that a group takes beside its rows.
constexpr int64_t match_shared_bytes(int64_t tokens) {
  const int64_t a = padded_entries(tokens / 2 + 1);
  return a * static_cast<int64_t>(sizeof(unsigned long long) + sizeof(float) + sizeof(int)) +
         padded_entries(tokens) * static_cast<int64_t>(sizeof(int));
}

/// \tparam kShare  Rows of A, and of B, that a thread has at a time: 2 for groups of up to 64
///                 tokens.
template <typename T, int kShare>
__global__ void __launch_bounds__(kMatchThreads<kShare>) match_kernel_impl(
    const Keys<T> keys,
    const int32_t* __restrict__ order,  // [N - P] or null
    const float* __restrict__ penalty,  // [B, N] or null
    const Groups groups, int64_t tokens, int64_t prefix, bool global,
    float* spill,  // null: the rows lie in shared memory; else [blocks, spill_stride] for them
    int64_t spill_stride,
    int32_t* __restrict__ destination) {  // [B, N]
  DSM_EXT_DYNAMIC_SHARED(float, held);
  constexpr int kThreads = kMatchThreads<kShare>;
  const int64_t image = blockIdx.x / groups.count;
  const int which = static_cast<int>(blockIdx.x % groups.count);
  const GroupShape group = groups.held[which];
  const int n = group.tokens, thread = static_cast<int>(threadIdx.x);
  destination += image * tokens;

  // A is the even positions. A global step counts them with the prefix, as `first_of_a` says.
  const int first_a = global ? static_cast<int>(prefix % 2) : 0;
  const int first_b = 1 - first_a;
  MatchState state;
  state.a_count = (n - first_a + 1) / 2;
  state.b_count = n - state.a_count;
  state.stride = match_row_stride(keys.channels);
  state.rows = spill == nullptr ? held : spill + blockIdx.x * spill_stride;
  float* behind = spill == nullptr ? held + n * state.stride : held;
  state.best = reinterpret_cast<unsigned long long*>(behind);
  const int64_t entries = padded_entries(state.a_count);
  state.score = reinterpret_cast<float*>(state.best + entries);
  state.merged_away = reinterpret_cast<int*>(state.score + entries);
  state.usable = state.merged_away + entries;
  // The row of the token at a place of the group.
  const auto slot = [&](int place) {
    return place / 2 + (place % 2 == first_a ? 0 : state.a_count);
  };
  // The index in the sequence of the token at a place of the group. It stays in bounds whatever
  // values `order` has.
  const auto token = [&](int place) {
    const int64_t grid = group.begin + place;
    const int64_t at = order == nullptr ? grid : order[grid];
    return prefix + (at >= 0 && at < tokens - prefix ? at : grid);
  };

  const T* image_keys = keys.data + image * keys.image;
  const auto token_at = [&](int place) { return image_keys + token(place) * keys.token; };
  const auto row_at = [&](int place) { return state.rows + slot(place) * state.stride; };
  if (keys.packed) {
    write_means<kChannels, kThreads>(keys, n, token_at, row_at);
  } else {
    write_means<1, kThreads>(keys, n, token_at, row_at);
  }
  __syncthreads();
  for (int i = thread; i < n; i += kThreads) {
    state.usable[i] = to_unit_length(state.rows + i * state.stride, keys.channels);
  }
  __syncthreads();
  propose<kShare>(state, keys.channels);
  __syncthreads();
  select<kThreads>(state, group.r, [&](int i) {
    return penalty == nullptr ? 0.f : penalty[image * tokens + token(2 * i + first_a)];
  });
  __syncthreads();

  // In the merged sequence the tokens of A that stay come first, then all of B.
  const int base_b = group.base + state.a_count - group.r;
  for (int j = thread; j < state.b_count; j += kThreads) {
    destination[token(2 * j + first_b)] = base_b + j;
  }
  for (int i = thread; i < state.a_count; i += kThreads) {
    int before = 0;  // tokens of A that stay, in front of this one
    for (int k = 0; k < i; ++k) {
      before += !state.merged_away[k];
    }
    destination[token(2 * i + first_a)] =
        state.merged_away[i] ? base_b + partner_of(state.best[i]) : group.base + before;
  }
  if (groups.first && which == 0) {
    for (int i = thread; i < prefix; i += kThreads) {
      destination[i] = i;
    }
  }
}

}  // namespace dsm_ext::cuda
