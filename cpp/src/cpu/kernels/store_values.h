#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "cpu/kernels/rows.h"

// Stores rows of operands from the loops that compute their values.

namespace dsm_ext::cpu {

/// How to quantize a row: 255 steps reach from its smallest value, or 0, to its largest, or 0.
struct Quantization {
  RowScale scale;
  float inverse;

  /// \param bad  0, or NaN if a value of the row is not finite. Then the step is NaN, so that all
  ///             products of the row become NaN.
  Quantization(float smallest, float largest, float bad) {
    constexpr float kLeast = 1e-30f;  // below this, a row counts as zeros
    const float range = largest - smallest;
    const bool finite = bad == 0 && range <= std::numeric_limits<float>::max();
    const bool any = finite && range >= kLeast;
    inverse = any ? 255.f / range : 0.f;
    scale.step = any ? range / 255.f : finite ? 0.f : std::numeric_limits<float>::quiet_NaN();
    scale.zero = any ? -rounded(smallest, inverse) : 0;
  }

  /// Rounds to the nearest integer, ties to even. After adding 1.5 * 2^23, the low bits of a float
  /// hold the integer.
  static int32_t rounded(float x, float inverse) {
    return std::bit_cast<int32_t>(x * inverse + 12582912.f) - std::bit_cast<int32_t>(12582912.f);
  }

  uint8_t operator()(float x) const {
    const int32_t q = rounded(x, inverse) + scale.zero;
    return static_cast<uint8_t>(q < 0 ? 0 : (q > 255 ? 255 : q));
  }
};

/// Quantizes one row. Calls `value(i)` twice for each index.
template <typename Value>
inline __attribute__((always_inline)) void quantize_row(
    int64_t width, uint8_t* out, RowScale* scale, const Value& value) {
  float smallest = 0, largest = 0, bad = 0;
#pragma omp simd reduction(min : smallest) reduction(max : largest) reduction(+ : bad)
  for (int64_t i = 0; i < width; ++i) {
    const float x = value(i);
    smallest = x < smallest ? x : smallest;
    largest = x > largest ? x : largest;
    bad += x * 0.f;
  }
  const Quantization quantize(smallest, largest, bad);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    out[i] = quantize(value(i));
  }
  *scale = quantize.scale;
}

/// Stores one row of floating-point operands.
template <typename T, typename Value>
inline __attribute__((always_inline)) void convert_row(int64_t width, T* out, const Value& value) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    out[i] = value(i);
  }
}

/// Stores one row of operands.
/// \param value  Gives the float of each index below `width`.
template <typename Value>
inline __attribute__((always_inline)) void store_values(
    int64_t width, Rows out, const Value& value) {
  if (out.element == Element::int8) {
    quantize_row(width, out.as<uint8_t>(), out.scales, value);
  } else {
    DSM_EXT_WITH_ELEMENT(out.element, T, convert_row(width, out.as<T>(), value))
  }
}

}  // namespace dsm_ext::cpu
