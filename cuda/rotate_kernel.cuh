#pragma once

#include <cmath>
#include <cstdint>

// Turns queries and keys in place by a rotary position embedding. A thread owns one pair of
// channels of one token, in every kHeadGroups-th head of queries and of keys, so that it computes
// cosine and sine once for several heads when heads share their frequencies. Neighbouring threads
// own neighbouring pairs. Values moved for a token: 2 * (H + heads) * D. D is even; rows may have
// any strides.

namespace dsm_ext::cuda {

constexpr int kHeadGroups = 4;  // threads that share the heads of a token's pair

/// Queries or keys [B, heads, tokens, D], where the channels of a head lie side by side.
template <typename T>
struct TurnedHeads {
  T* data;
  int64_t image_stride, head_stride, token_stride;
  int32_t heads, tokens;
};

struct RotationArguments {
  const float* location;     // [B or 1, N, 2]
  int64_t location_stride;   // floats from one image to the next; 0: all images share them
  int64_t frequency_stride;  // from one axis to the next
  int64_t head_stride;       // of the frequencies, from one head to the next; 0: heads share them
  float scale[2], shift[2];  // coordinate = location * scale + shift, by axis
  int32_t first;             // which part of a location is axis 0
  int32_t prefix;            // tokens that are not turned
  int32_t pairs;             // D / 2
  bool halves;               // whether channel i turns with i + D / 2, not 2 i with 2 i + 1
};

template <typename T>
__device__ inline void turn(
    T* head, int pair, const RotationArguments& how, float cosine, float sine) {
  T& a = head[how.halves ? pair : 2 * pair];
  T& b = head[how.halves ? pair + how.pairs : 2 * pair + 1];
  const auto first = static_cast<float>(a), second = static_cast<float>(b);
  a = static_cast<T>(first * cosine - second * sine);
  b = static_cast<T>(second * cosine + first * sine);
}

/// A thread for each image, group of heads, token behind the prefix and pair, in this order.
template <typename T, typename F>
__global__ void rotate_kernel_impl(
    const TurnedHeads<T> q, const TurnedHeads<T> k,
    const F* __restrict__ frequencies,  // [2, H or 1, D / 2]
    const RotationArguments how, int64_t threads) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= threads) {
    return;
  }
  const int pair = static_cast<int>(i % how.pairs);
  const int turned = k.tokens - how.prefix;
  const int64_t token = i / how.pairs % turned + how.prefix;
  const int64_t outer = i / how.pairs / turned;
  const int group = static_cast<int>(outer % kHeadGroups);
  const int64_t image = outer / kHeadGroups;
  const float* location = how.location + image * how.location_stride + 2 * token;
  const float u = location[how.first] * how.scale[0] + how.shift[0];
  const float v = location[1 - how.first] * how.scale[1] + how.shift[1];
  float cosine = 0, sine = 0;
  const int heads = q.heads > k.heads ? q.heads : k.heads;
  for (int h = group; h < heads; h += kHeadGroups) {
    if (how.head_stride != 0 || h == group) {
      const F* own = frequencies + h * how.head_stride + pair;
      const float angle =
          u * static_cast<float>(own[0]) + v * static_cast<float>(own[how.frequency_stride]);
      cosine = cos(angle);
      sine = sin(angle);
    }
    if (h < q.heads && token < q.tokens) {
      turn(
          q.data + image * q.image_stride + h * q.head_stride + token * q.token_stride, pair, how,
          cosine, sine);
    }
    if (h < k.heads) {
      turn(
          k.data + image * k.image_stride + h * k.head_stride + token * k.token_stride, pair, how,
          cosine, sine);
    }
  }
}

}  // namespace dsm_ext::cuda
