#pragma once

#include <cmath>

// GELU in its exact form, x Phi(x), where Phi is the standard normal distribution, for results that
// are rounded to half precision.
//
// Phi(-t) = 2^p(t) for t = |x|, and Phi(t) = 1 - Phi(-t). p is a polynomial of degree 7, fitted to
// log2 Phi(-t) for t in [0, 13.2]. This takes one exponential of the hardware and 10 other
// instructions. erff takes about three times as many and two branches, which a product's epilogue
// cannot hide.
//
// Error before rounding, on an H200 for 250 million floats: at most 2.5e-5 of the result while
// |result| >= 2^-14. That is 0.10 of half a unit in the last place of float16, and 0.013 of
// bfloat16's. Smaller results are off by at most 1.5e-9 and by 2.2% of themselves. There
// 1 + erf(x / sqrt 2), ATen's form, cancels: in float32 it is off by up to 1.1e-7. Below x = -12.9
// the result is -0. NaN gives NaN, inf gives inf, and -inf gives NaN, as in ATen's form.

namespace dsm_ext::cuda {

/// 2^x, and 0 where that is below the smallest normal number.
__device__ inline float exp2_of(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return x < -126 ? 0 : std::exp2(x);
#endif
}

__device__ inline float gelu(float x) {
  const float t = std::fabs(x);
  float p = -9.313133e-07F;
  p = std::fma(p, t, 4.110997e-05F);
  p = std::fma(p, t, -7.5446034e-04F);
  p = std::fma(p, t, 7.773822e-03F);
  p = std::fma(p, t, -5.2406278e-02F);
  p = std::fma(p, t, -0.46002996F);
  p = std::fma(p, t, -1.1506499F);
  p = std::fma(p, t, -1.0000358F);
  return x * std::fabs((x > 0 ? 1.F : 0.F) - exp2_of(p));
}

}  // namespace dsm_ext::cuda
