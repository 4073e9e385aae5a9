#include "cpu/kernels/key_metric.h"

#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

template <typename T>
inline __attribute__((always_inline)) void mean_of_heads(
    const T* keys, int64_t stride, int64_t rows, int64_t heads, int64_t dim, float* out) {
  const float scale = 1.f / static_cast<float>(heads);
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = keys + r * stride;
    float* mean = out + r * dim;
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) {
      mean[i] = static_cast<float>(row[i]);
    }
    for (int64_t h = 1; h < heads; ++h) {
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) {
        mean[i] += static_cast<float>(row[h * dim + i]);
      }
    }
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) {
      mean[i] *= scale;
    }
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void key_metric(
    Rows keys, int64_t rows, int64_t heads, int64_t dim, float* out) {
  DSM_EXT_WITH_ELEMENT(
      keys.element, T, mean_of_heads(keys.as<T>(), keys.stride, rows, heads, dim, out))
}

}  // namespace dsm_ext::cpu
