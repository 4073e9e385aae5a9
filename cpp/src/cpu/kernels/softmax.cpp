#include "cpu/kernels/softmax.h"

#include <limits>

#include "cpu/kernels/softmax_avx512.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
inline __attribute__((always_inline)) void exponentials_to(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, T* out,
    int64_t out_stride, const RunningSoftmax& softmax) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = scores + r * columns;
    T* to = out + r * out_stride;
    float largest = softmax.largest[r];
#pragma omp simd reduction(max : largest)
    for (int64_t c = 0; c < columns; ++c) {
      const float score = row[c] * factor + bias[c];
      largest = score > largest ? score : largest;
    }
    const float subtracted = largest == -kInfinity ? 0.f : largest;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < columns; ++c) {
      const float value = exp_negative(row[c] * factor + bias[c] - subtracted);
      to[c] = value;
      sum += value;
    }
    softmax.add(r, largest, sum);
  }
}

template <typename T>
inline __attribute__((always_inline)) void divide_rows_to(
    const float* x, int64_t rows, int64_t columns, const float* sum, T* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float scale = sum[r] == 0 ? 0.f : 1 / sum[r];
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = x[r * columns + c] * scale;
    }
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void exponentials_any(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax) {
  DSM_EXT_WITH_ELEMENT(
      out.element, T,
      exponentials_to(scores, rows, columns, factor, bias, out.as<T>(), out.stride, softmax))
}

void exponentials(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax) {
  const bool wide = out.element == Element::bfloat16 && has_avx512();
  (wide ? exponentials_avx512 : exponentials_any)(
      scores, rows, columns, factor, bias, out, softmax);
}

DSM_EXT_MULTIVERSION void rescale_rows(
    float* x, int64_t rows, int64_t columns, const float* scale) {
  for (int64_t r = 0; r < rows; ++r) {
    if (scale[r] != 1) {
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) {
        x[r * columns + c] *= scale[r];
      }
    }
  }
}

DSM_EXT_MULTIVERSION void divide_rows(
    const float* x, int64_t rows, int64_t columns, const float* sum, Rows out) {
  DSM_EXT_WITH_ELEMENT(
      out.element, T, divide_rows_to(x, rows, columns, sum, out.as<T>(), out.stride))
}

}  // namespace dsm_ext::cpu
