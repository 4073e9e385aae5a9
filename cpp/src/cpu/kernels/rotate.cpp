#include "cpu/kernels/rotate.h"

#include <algorithm>
#include <cmath>

#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

// Below this, the reduction of an angle to [-pi / 4, pi / 4] is exact to a float's last bit: the
// quadrant's number has 13 bits, and so have the first two parts of pi / 2 room for the product.
constexpr float kLargestAngle = 8192;

struct SineAndCosine {
  float sine, cosine;
};

// The sine and cosine of an angle within kLargestAngle. The polynomials approximate them on
// [-pi / 4, pi / 4] to about 1e-7.
inline __attribute__((always_inline)) SineAndCosine sine_and_cosine(float angle) {
  // After adding 1.5 * 2^23, the low bits of a float hold the nearest integer.
  constexpr float kRound = 12582912.f, kTwoOverPi = 0.636619772f;
  const float quadrant = (angle * kTwoOverPi + kRound) - kRound;
  float x = angle - quadrant * 1.5703125f;
  x -= quadrant * 4.837512969970703e-4f;
  x -= quadrant * 7.549789948768648e-8f;
  const float square = x * x;
  const float s =
      x +
      x * square * (-1.6666654611e-1f + square * (8.3321608736e-3f - square * 1.9515295891e-4f));
  const float c = 1 - 0.5f * square +
                  square * square *
                      (4.166664568298827e-2f +
                       square * (-1.388731625493765e-3f + square * 2.443315711809948e-5f));
  const auto number = static_cast<int32_t>(quadrant);
  const bool swapped = (number & 1) != 0;
  const float sine = swapped ? c : s, cosine = swapped ? s : c;
  return {(number & 2) != 0 ? -sine : sine, ((number + 1) & 2) != 0 ? -cosine : cosine};
}

template <typename T>
inline __attribute__((always_inline)) void rotate(
    T* x, int64_t heads, int64_t pairs, const float* rotation, int64_t stride) {
  for (int64_t h = 0; h < heads; ++h) {
    T *a = x + h * 2 * pairs, *b = a + pairs;
    const float *cosine = rotation + h * stride, *sine = cosine + pairs;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      const auto first = static_cast<float>(a[i]), second = static_cast<float>(b[i]);
      a[i] = first * cosine[i] - second * sine[i];
      b[i] = second * cosine[i] + first * sine[i];
    }
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void write_rotation(
    std::array<float, 2> coordinates, std::array<const float*, 2> frequencies, int64_t pairs,
    float* rotation) {
  const auto [u, v] = coordinates;
  const float *first = frequencies[0], *second = frequencies[1];
  float *cosine = rotation, *sine = rotation + pairs;
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < pairs; ++i) {
    const float angle = u * first[i] + v * second[i];
    cosine[i] = angle;
    largest = std::max(largest, std::abs(angle));
  }
  if (!(largest < kLargestAngle)) {
    for (int64_t i = 0; i < pairs; ++i) {
      const float angle = cosine[i];
      cosine[i] = std::cos(angle);
      sine[i] = std::sin(angle);
    }
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < pairs; ++i) {
    const auto both = sine_and_cosine(cosine[i]);
    cosine[i] = both.cosine;
    sine[i] = both.sine;
  }
}

DSM_EXT_MULTIVERSION void rotate_row(
    Rows x, int64_t heads, int64_t pairs, const float* rotation, int64_t stride) {
  DSM_EXT_WITH_ELEMENT(x.element, T, rotate(x.as<T>(), heads, pairs, rotation, stride))
}

}  // namespace dsm_ext::cpu
