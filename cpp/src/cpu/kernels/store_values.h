#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "cpu/kernels/rows.h"

// Stores rows that another loop computes. Quantizing a row: its largest value becomes 127 or -127,
// and every value is rounded to the nearest multiple of the scale, ties to even.

namespace dsm_ext::cpu {

/// The bits of |x|. They are ordered like the values; infinity and NaN come last.
inline int32_t magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }

/// The scale of a row, and the factor that quantizes its values.
struct Scale {
  float scale, inverse;

  /// \param largest  The largest magnitude in the row. If it is not finite, the scale is NaN, so
  /// that
  ///                 all products of the row become NaN. If it is below 4e-37, so that its inverse
  ///                 is not finite, the row counts as zeros.
  explicit Scale(int32_t largest) {
    const float value = std::bit_cast<float>(largest);
    const float infinity = std::numeric_limits<float>::infinity();
    inverse = 127.f / value;
    scale = inverse < infinity ? value / 127.f : 0.f;
    inverse = inverse < infinity ? inverse : 0.f;
    scale = value < infinity ? scale : std::numeric_limits<float>::quiet_NaN();
  }
};

/// Rounds to the nearest integer, ties to even. After adding 1.5 * 2^23, the low bits of a float
/// hold the integer.
inline int8_t quantize(float x, float inverse) {
  return static_cast<int8_t>(std::bit_cast<uint32_t>(x * inverse + 12582912.f));
}

/// Quantizes one row. Calls `value(i)` twice for each index.
template <typename Value>
inline __attribute__((always_inline)) void quantize_row(
    int64_t width, int8_t* out, float* scale, const Value& value) {
  int32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < width; ++i) {
    const int32_t m = magnitude(value(i));
    largest = m > largest ? m : largest;
  }
  const Scale row(largest);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    out[i] = quantize(value(i), row.inverse);
  }
  *scale = row.scale;
}

/// Stores one row of floating-point operands.
template <typename T, typename Value>
inline __attribute__((always_inline)) void convert_row(int64_t width, T* out, const Value& value) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    out[i] = static_cast<T>(value(i));
  }
}

/// Stores one row of operands.
/// \param value  Gives the float of each index below `width`.
template <typename Value>
inline __attribute__((always_inline)) void store_values(
    int64_t width, Rows out, const Value& value) {
  if (out.element == Element::int8) {
    quantize_row(width, out.as<int8_t>(), out.scales, value);
  } else {
    DSM_EXT_WITH_ELEMENT(out.element, T, convert_row(width, out.as<T>(), value))
  }
}

}  // namespace dsm_ext::cpu
