#include "cpu/kernels/softmax_avx512.h"

#include <limits>

// Exponentials for bfloat16 weights. With AMX the two products of attention take about as long as
// the softmax, so that its instructions count. `exp_negative` in a plain loop takes more of them.
// Here VREDUCEPS takes the fraction of the exponent, VSCALEFPS multiplies by the power of two (both
// treat minus infinity and NaN as needed), and VPERMT2W takes the upper halves of 32 floats.
// Compilers choose none of them for a plain loop.

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define DSM_EXT_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq")))

namespace dsm_ext::cpu {
namespace {

// 16 scores at p.
DSM_EXT_AVX512 inline __m512 scores_of(const float* p, __m512 factor, const float* bias) {
  return _mm512_fmadd_ps(_mm512_loadu_ps(p), factor, _mm512_loadu_ps(bias));
}

// exp(score - largest), by a polynomial for 2^r with a relative error of 2e-7. The error of the
// result grows with the difference, because its multiple of log2 e is rounded.
DSM_EXT_AVX512 inline __m512 exponential(__m512 score, __m512 largest) {
  const __m512 x = _mm512_mul_ps(_mm512_sub_ps(score, largest), _mm512_set1_ps(1.44269504f));
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(1.87757669e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.98934063e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.58263175e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40153611e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93153083e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.99999940e-1f));
  // Results below 2^-125 become 0: a denormal result takes 20 times as long. NaN stays NaN.
  const __mmask16 large = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-125.f), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(large, p, x);
}

// The bits of x; their upper halves are x rounded to bfloat16, halves up.
DSM_EXT_AVX512 inline __m512i rounded(__m512 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}

}  // namespace

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") != 0 &&
                          __builtin_cpu_supports("avx512bw") != 0 &&
                          __builtin_cpu_supports("avx512dq") != 0;
  return has;
}

DSM_EXT_AVX512 void exponentials_avx512(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax) {
  alignas(64) static constexpr uint16_t kUpperHalves[32] = {
      1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i upper_halves = _mm512_load_si512(kUpperHalves);
  const __m512 scale = _mm512_set1_ps(factor);
  const int64_t pairs = columns / 32 * 32;  // `columns` is a multiple of 16
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = scores + r * columns;
    auto* to = out.as<uint16_t>() + r * out.stride;
    __m512 largest_0 = _mm512_set1_ps(softmax.largest[r]), largest_1 = largest_0;
    for (int64_t c = 0; c < pairs; c += 32) {  // of a number and NaN, max gives its second operand
      largest_0 = _mm512_max_ps(scores_of(row + c, scale, bias + c), largest_0);
      largest_1 = _mm512_max_ps(scores_of(row + c + 16, scale, bias + c + 16), largest_1);
    }
    if (pairs < columns) {
      largest_0 = _mm512_max_ps(scores_of(row + pairs, scale, bias + pairs), largest_0);
    }
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(largest_0, largest_1));
    const __m512 subtracted =
        _mm512_set1_ps(largest == -std::numeric_limits<float>::infinity() ? 0.f : largest);
    __m512 sum_0 = _mm512_setzero_ps(), sum_1 = sum_0;
    for (int64_t c = 0; c < pairs; c += 32) {
      const __m512 low = exponential(scores_of(row + c, scale, bias + c), subtracted);
      const __m512 high = exponential(scores_of(row + c + 16, scale, bias + c + 16), subtracted);
      sum_0 = _mm512_add_ps(sum_0, low);
      sum_1 = _mm512_add_ps(sum_1, high);
      _mm512_storeu_si512(
          to + c, _mm512_permutex2var_epi16(rounded(low), upper_halves, rounded(high)));
    }
    if (pairs < columns) {
      const __m512 low = exponential(scores_of(row + pairs, scale, bias + pairs), subtracted);
      sum_0 = _mm512_add_ps(sum_0, low);
      const __m512i halves = _mm512_permutexvar_epi16(upper_halves, rounded(low));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + pairs), _mm512_castsi512_si256(halves));
    }
    softmax.add(r, largest, _mm512_reduce_add_ps(_mm512_add_ps(sum_0, sum_1)));
  }
}

}  // namespace dsm_ext::cpu

#else

namespace dsm_ext::cpu {

bool has_avx512() { return false; }

void exponentials_avx512(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax) {
  exponentials_any(scores, rows, columns, factor, bias, out, softmax);
}

}  // namespace dsm_ext::cpu

#endif
