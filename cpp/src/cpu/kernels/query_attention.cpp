#include "cpu/kernels/query_attention.h"

#include <cmath>
#include <limits>

#include "cpu/kernels/functions.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

template <typename T>
inline __attribute__((always_inline)) void score_keys(
    const float* query, const T* keys, int64_t stride, int64_t tokens, int64_t dim,
    const float* bias, float* out) {
  const float scale = 1.f / std::sqrt(static_cast<float>(dim));
  for (int64_t t = 0; t < tokens; ++t) {
    const T* key = keys + t * stride;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < dim; ++d) {
      sum += query[d] * static_cast<float>(key[d]);
    }
    out[t] = sum * scale + bias[t];
  }
}

template <typename T>
inline __attribute__((always_inline)) void add_row(
    const T* row, float weight, int64_t width, float* sum) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    sum[i] += weight * static_cast<float>(row[i]);
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void query_attention(
    const float* query, Rows keys, int64_t tokens, int64_t dim, const float* bias, float* out) {
  DSM_EXT_WITH_ELEMENT(
      keys.element, T, score_keys(query, keys.as<T>(), keys.stride, tokens, dim, bias, out))
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t t = 0; t < tokens; ++t) {
    largest = out[t] > largest ? out[t] : largest;
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t t = 0; t < tokens; ++t) {
    out[t] = exp_negative(out[t] - largest);
    sum += out[t];
  }
#pragma omp simd
  for (int64_t t = 0; t < tokens; ++t) {
    out[t] /= sum;
  }
}

DSM_EXT_MULTIVERSION void mean_of_rows(
    Rows rows, const float* size, int64_t count, int64_t width, float* out) {
  std::fill_n(out, width, 0.f);
  float total = 0;
  for (int64_t r = 0; r < count; ++r) {
    const float weight = size == nullptr ? 1.f : size[r];
    DSM_EXT_WITH_ELEMENT(rows.element, T, add_row(rows.at(r).as<T>(), weight, width, out))
    total += weight;
  }
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    out[i] /= total;
  }
}

}  // namespace dsm_ext::cpu
