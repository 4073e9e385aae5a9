#include "rows.h"

#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "../../ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

// x * Phi(x), timm's exact GELU. Phi(x) - 1/2 is odd: a ratio of polynomials in x^2, fitted to
// 7e-9 on [-5.5, 5.5] and cut there: beyond, x or 0 is right to 1.1e-7. The whole is off by 1e-6 at
// most, at |x| near 5, as torch's own is. Phi(x) is a factor to the end, so that minus infinity
// gives NaN, as x * Phi(x) does elsewhere.
inline float gelu(float x) {
  const float t = x < -5.5f ? -5.5f : (x > 5.5f ? 5.5f : x);
  const float u = t * t;
  float p = 2.27490620e-08f;
  p = p * u + 6.35188959e-06f;
  p = p * u + 1.68815821e-04f;
  p = p * u + 4.67720083e-03f;
  p = p * u + 3.38518520e-02f;
  p = p * u + 3.98942235e-01f;
  float q = 1.19747791e-06f;
  q = q * u + 7.36434649e-05f;
  q = q * u + 1.88439094e-03f;
  q = q * u + 2.86453873e-02f;
  q = q * u + 2.51519930e-01f;
  q = q * u + 1.f;
  return x * (x < -5.5f ? 0.f : 0.5f + t * p / q);
}

// exp(x) for x <= 0, to 1 unit in the last place; 0 below -87, where what is left is less than
// 1.7e-38: a factor of it times a huge value would be seen. The polynomial is fitted to 3e-9 on
// [-ln 2 / 2, ln 2 / 2]; Taylor's of the same degree would be off by 2e-7 at the ends.
inline float exp_negative(float x) {
  constexpr float round = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  x = x < -88.f ? -88.f : x;
  const float shifted = x * 1.44269504f + round;
  const float n = shifted - round;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.38145406e-3f;
  p = p * r + 8.36874545e-3f;
  p = p * r + 4.16683890e-2f;
  p = p * r + 1.66665211e-1f;
  p = p * r + 0.49999994f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float power = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
  return x >= -87.f ? power : x - x;  // 0, or NaN for NaN
}

#if defined(__clang__) || __GNUC__ >= 12
#define DSM_EXT_SHUFFLES 1

// Compilers make no shuffles of a transposing loop; these are the vectors of both GCC and Clang, on
// any processor. Letters are rows, digits columns.
using Eight = float __attribute__((vector_size(32), aligned(4), may_alias));

inline __attribute__((always_inline)) void transpose_8_by_8(
    const float* x, int64_t stride, float* out, int64_t out_stride) {
  Eight row[8], pair[8], four[8];
  for (int64_t i = 0; i < 8; ++i) {
    row[i] = *reinterpret_cast<const Eight*>(x + i * stride);
  }
  for (int64_t i = 0; i < 8; i += 2) {  // a0 b0 a1 b1 a4 b4 a5 b5, a2 b2 a3 b3 a6 b6 a7 b7
    pair[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pair[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int64_t i = 0; i < 8; i += 4) {  // a0 b0 c0 d0 a4 b4 c4 d4, a1 b1 c1 d1 a5 b5 c5 d5, ...
    for (int64_t j = 0; j < 2; ++j) {
      four[i + 2 * j] =
          __builtin_shufflevector(pair[i + j], pair[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      four[i + 2 * j + 1] =
          __builtin_shufflevector(pair[i + j], pair[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int64_t i = 0; i < 4; ++i) {
    *reinterpret_cast<Eight*>(out + i * out_stride) =
        __builtin_shufflevector(four[i], four[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *reinterpret_cast<Eight*>(out + (i + 4) * out_stride) =
        __builtin_shufflevector(four[i], four[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

#endif

// 1 / (1 + exp(-x)), from the exponential of what is not positive.
inline float sigmoid(float x) {
  const float e = exp_negative(x < 0.f ? x : -x);
  return (x < 0.f ? e : 1.f) / (1.f + e);
}

template <Activation activation>
inline float activate(float x) {
  if constexpr (activation == Activation::gelu) {
    return gelu(x);
  } else if constexpr (activation == Activation::gelu_tanh) {  // 0.5 x (1 + tanh(y)), y = ...
    return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
  } else if constexpr (activation == Activation::quick_gelu) {
    return x * sigmoid(1.702f * x);
  } else {
    return x * sigmoid(x);
  }
}

// The innermost loops; `columns` is known to the compiler in almost all calls.

inline __attribute__((always_inline)) void add_bias(
    const float* tile, int64_t rows, int64_t columns, const float* bias, float* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = tile[r * kTile + c] + bias[c];
    }
  }
}

inline __attribute__((always_inline)) void add_bias_and(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const float* addend,
    int64_t addend_stride, float* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = tile[r * kTile + c] + bias[c] + addend[r * addend_stride + c];
    }
  }
}

template <Activation activation>
inline __attribute__((always_inline)) void activate_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, float* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = activate<activation>(tile[r * kTile + c] + bias[c]);
    }
  }
}

template <Activation activation>
inline __attribute__((always_inline)) void gate_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, float* out,
    int64_t out_stride) {
  constexpr int64_t half = kTile / 2;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = tile + r * kTile;
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      const float gate = activate<activation>(row[c] + bias[c]);
      out[r * out_stride + c] = gate * (row[half + c] + bias[half + c]);
    }
  }
}

template <Activation activation>
inline __attribute__((always_inline)) void activate_any(
    const float* tile, int64_t rows, int64_t columns, const float* bias, bool gated, float* out,
    int64_t out_stride) {
  if (gated) {
    gate_tile<activation>(tile, rows, columns, bias, out, out_stride);
  } else if (columns == kTile) {
    activate_tile<activation>(tile, rows, kTile, bias, out, out_stride);
  } else {
    activate_tile<activation>(tile, rows, columns, bias, out, out_stride);
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void layer_norm(
    const float* x, int64_t channels, const float* weight, const float* bias, float eps,
    float* out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < channels; ++c) {
    sum += x[c];
  }
  const float mean = sum / static_cast<float>(channels);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < channels; ++c) {
    squares += (x[c] - mean) * (x[c] - mean);
  }
  const float variance = squares / static_cast<float>(channels);
  // Where the variance overflows, the reciprocal would be 0, and the row its bias: it is to be NaN.
  const float scale = 1 / std::sqrt(variance + eps) + 0 * variance;
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = (x[c] - mean) * scale * weight[c] + bias[c];
  }
}

DSM_EXT_MULTIVERSION void rms_norm(
    const float* x, int64_t channels, const float* weight, float eps, float* out) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < channels; ++c) {
    squares += x[c] * x[c];
  }
  const float scale = 1 / std::sqrt(squares / static_cast<float>(channels) + eps);
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = x[c] * scale * weight[c];
  }
}

DSM_EXT_MULTIVERSION void finish_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
    float* out, int64_t out_stride) {
  if (finish.activation) {
    switch (*finish.activation) {
      case Activation::gelu:
        return activate_any<Activation::gelu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::gelu_tanh:
        return activate_any<Activation::gelu_tanh>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::quick_gelu:
        return activate_any<Activation::quick_gelu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::silu:
        return activate_any<Activation::silu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
    }
  }
  const auto [addend, stride] = std::pair(finish.addend, finish.addend_stride);
  if (addend == nullptr) {
    columns == kTile ? add_bias(tile, rows, kTile, bias, out, out_stride)
                     : add_bias(tile, rows, columns, bias, out, out_stride);
  } else {
    columns == kTile ? add_bias_and(tile, rows, kTile, bias, addend, stride, out, out_stride)
                     : add_bias_and(tile, rows, columns, bias, addend, stride, out, out_stride);
  }
}

DSM_EXT_MULTIVERSION void exponentials(
    float* scores, int64_t rows, int64_t columns, float factor, const float* bias, float* scale) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * columns;
    float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t c = 0; c < columns; ++c) {
      const float score = row[c] * factor + bias[c];
      largest = score > largest ? score : largest;
    }
    largest = largest == -std::numeric_limits<float>::infinity() ? 0.f : largest;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < columns; ++c) {
      const float value = exp_negative(row[c] * factor + bias[c] - largest);
      row[c] = value;
      sum += value;
    }
    scale[r] = sum == 0 ? 0.f : 1 / sum;
  }
}

DSM_EXT_MULTIVERSION void scale_rows(
    float* x, int64_t rows, int64_t columns, int64_t stride, const float* scale) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      x[r * stride + c] *= scale[r];
    }
  }
}

DSM_EXT_MULTIVERSION void mean_of_heads(
    const float* keys, int64_t stride, int64_t rows, int64_t heads, int64_t dim, float* out) {
  const float scale = 1.f / static_cast<float>(heads);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = keys + r * stride;
    float* mean = out + r * dim;
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) {
      mean[i] = row[i];
    }
    for (int64_t h = 1; h < heads; ++h) {
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) {
        mean[i] += row[h * dim + i];
      }
    }
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) {
      mean[i] *= scale;
    }
  }
}

DSM_EXT_MULTIVERSION void transpose(
    const float* x, int64_t rows, int64_t columns, int64_t stride, float* out, int64_t out_stride) {
  int64_t whole_rows = 0, whole_columns = 0;
#ifdef DSM_EXT_SHUFFLES
  whole_rows = rows / 8 * 8;
  whole_columns = columns / 8 * 8;
  for (int64_t r = 0; r < whole_rows; r += 8) {
    for (int64_t c = 0; c < whole_columns; c += 8) {
      transpose_8_by_8(x + r * stride + c, stride, out + c * out_stride + r, out_stride);
    }
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      out[c * out_stride + r] = x[r * stride + c];
    }
  }
}

}  // namespace dsm_ext::cpu
