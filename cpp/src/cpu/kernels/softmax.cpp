#include "cpu/kernels/softmax.h"

#include <limits>

#include "cpu/kernels/functions.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

template <typename T>
inline __attribute__((always_inline)) void exponentials_to(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, T* out,
    int64_t out_stride, float* scale) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = scores + r * columns;
    T* to = out + r * out_stride;
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
      to[c] = value;
      sum += value;
    }
    scale[r] = sum == 0 ? 0.f : 1 / sum;
  }
}

template <typename T>
inline __attribute__((always_inline)) void scale_rows_to(
    const float* x, int64_t stride, int64_t rows, int64_t columns, const float* scale, T* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = x[r * stride + c] * scale[r];
    }
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void exponentials(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    float* scale){DSM_EXT_WITH_ELEMENT(
    out.element, T,
    exponentials_to(scores, rows, columns, factor, bias, out.as<T>(), out.stride, scale))}

DSM_EXT_MULTIVERSION void scale_rows(
    const float* x, int64_t stride, int64_t rows, int64_t columns, const float* scale, Rows out) {
  DSM_EXT_WITH_ELEMENT(
      out.element, T, scale_rows_to(x, stride, rows, columns, scale, out.as<T>(), out.stride))
}

}  // namespace dsm_ext::cpu
