#include "cpu/kernels/norms.h"

#include <cmath>

#include "cpu/kernels/store_values.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

template <typename In>
inline __attribute__((always_inline)) void layer_norm(
    const In* x, int64_t channels, const NormWeights& norm, Rows out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < channels; ++c) {
    sum += static_cast<float>(x[c]);
  }
  const float mean = sum / static_cast<float>(channels);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < channels; ++c) {
    const float difference = static_cast<float>(x[c]) - mean;
    squares += difference * difference;
  }
  const float variance = squares / static_cast<float>(channels);
  // When the variance overflows, the first term is 0, and the row would become the bias. The last
  // term then is NaN and makes the row NaN. Otherwise the last term is 0.
  const float scale = 1 / std::sqrt(variance + norm.eps) + 0 * variance;
  const float *weight = norm.weight, *bias = norm.bias;
  store_values(channels, out, [=](int64_t c) __attribute__((always_inline)) {
    return (static_cast<float>(x[c]) - mean) * scale * weight[c] + bias[c];
  });
}

template <typename In>
inline __attribute__((always_inline)) void rms_norm(
    const In* x, int64_t channels, const NormWeights& norm, Rows out) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < channels; ++c) {
    const auto value = static_cast<float>(x[c]);
    squares += value * value;
  }
  const float scale = 1 / std::sqrt(squares / static_cast<float>(channels) + norm.eps);
  const float* weight = norm.weight;
  store_values(channels, out, [=](int64_t c) __attribute__((always_inline)) {
    return static_cast<float>(x[c]) * scale * weight[c];
  });
}

template <typename In>
inline __attribute__((always_inline)) void normalize(
    const In* x, int64_t channels, const NormWeights& norm, Rows out) {
  norm.rms ? rms_norm(x, channels, norm, out) : layer_norm(x, channels, norm, out);
}

}  // namespace

DSM_EXT_MULTIVERSION void normalize_row(
    const float* x, int64_t channels, const NormWeights& norm, Rows out) {
  normalize(x, channels, norm, out);
}

DSM_EXT_MULTIVERSION void normalize_operands(
    Rows x, int64_t rows, int64_t heads, int64_t channels, const NormWeights& norm, Rows out) {
  DSM_EXT_WITH_ELEMENT(
      x.element, In, for (int64_t row = 0; row < rows; ++row) {
        for (int64_t h = 0; h < heads; ++h) {
          normalize(x.at(row, h * channels).as<In>(), channels, norm, out.at(row, h * channels));
        }
      })
}

}  // namespace dsm_ext::cpu
