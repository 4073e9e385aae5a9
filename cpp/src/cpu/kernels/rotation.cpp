#include "cpu/kernels/rotation.h"

#include <cmath>

#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

// Below this angle, the number of its quadrant has at most 13 bits. The first two parts of pi / 2
// have 8 and 11 bits, so their products with that number are exact, and the reduction of the angle
// to
// [-pi / 4, pi / 4] loses no bits. Larger angles take the standard library's functions.
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

}  // namespace

DSM_EXT_MULTIVERSION void write_rotation(
    std::array<float, 2> coordinates, std::array<const float*, 2> frequencies, int64_t panels,
    float* table, int64_t stride) {
  const auto [u, v] = coordinates;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const float* first = frequencies[0] + panel * kPairs;
    const float* second = frequencies[1] + panel * kPairs;
    float *cosine = table + panel * stride, *sine = cosine + kPairs;
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < kPairs; ++i) {
      const float angle = u * first[i] + v * second[i];
      sine[i] = angle;
      largest = std::max(largest, std::abs(angle));
    }
    if (largest < kLargestAngle) {
#pragma omp simd
      for (int64_t i = 0; i < kPairs; ++i) {
        const auto both = sine_and_cosine(sine[i]);
        cosine[i] = both.cosine;
        sine[i] = both.sine;
      }
    } else {
      for (int64_t i = 0; i < kPairs; ++i) {
        cosine[i] = std::cos(sine[i]);
        sine[i] = std::sin(sine[i]);
      }
    }
  }
}

DSM_EXT_MULTIVERSION void rotate_rows(Rows x, int64_t rows, const Rotation& rotation) {
  const float* table = rotation.table;
  DSM_EXT_WITH_ELEMENT(
      x.element, T,
      with_pair_width(rotation.width, [&]<int64_t width>() __attribute__((always_inline)) {
        for (int64_t r = 0, token = rotation.token; r < rows; ++r) {
          T* row = x.at(r).as<T>();
          const auto value = [row](int64_t c) __attribute__((always_inline)) {
            return static_cast<float>(row[c]);
          };
          store_turned<width>(rotation.columns, value, table + token * rotation.token_stride, row);
          token = token + 1 == rotation.tokens ? 0 : token + 1;
        }
      }))
}

}  // namespace dsm_ext::cpu
