#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "dsm_ext/config.h"

// Functions of one float32 value, written so that compilers can vectorize the loops that call them.

namespace dsm_ext::cpu {

/// x * Phi(x), timm's exact GELU. Phi(x) - 1/2 is an odd function. It is computed as t times a
/// ratio of polynomials in t^2, which fits it on [-5.5, 5.5] with an error of 7e-9. Outside this
/// range GELU is x or 0 with an error of 1.1e-7. The largest error of the whole function is 1e-6,
/// near |x| = 5; torch's GELU has an error of the same size. The last operation multiplies by
/// Phi(x), so that minus infinity gives NaN, as in torch.
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

/// exp(x) for x <= 0, with an error of 1 unit in the last place. For x below -87 the result is 0;
/// the exact value would be below 1.7e-38. The polynomial has an error of 3e-9 on [-ln 2 / 2, ln 2
/// / 2]. Taylor's polynomial of the same degree would have an error of 2e-7 at the ends of that
/// range.
inline float exp_negative(float x) {
  constexpr float round = 12582912.f;  // 1.5 * 2^23: after adding it, the low bits hold an integer
  x = x < -88.f ? -88.f : x;
  const float shifted = x * 1.44269504f + round;
  const float n = shifted - round;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // x - n ln 2, ln 2 in two parts
  float p = 1.38145406e-3f;
  p = p * r + 8.36874545e-3f;
  p = p * r + 4.16683890e-2f;
  p = p * r + 1.66665211e-1f;
  p = p * r + 0.49999994f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  const float power = std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
  return x >= -87.f ? power : x - x;  // x - x is 0, or NaN if x is NaN
}

/// 1 / (1 + exp(-x)). It takes the exponential of -|x|, which cannot overflow.
inline float sigmoid(float x) {
  const float e = exp_negative(x < 0.f ? x : -x);
  return (x < 0.f ? e : 1.f) / (1.f + e);
}

template <Activation activation>
inline float activate(float x) {
  if constexpr (activation == Activation::gelu) {
    return gelu(x);
  } else if constexpr (activation == Activation::gelu_tanh) {
    // 0.5 x (1 + tanh(y)) = x sigmoid(2 y)
    return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
  } else if constexpr (activation == Activation::quick_gelu) {
    return x * sigmoid(1.702f * x);
  } else {
    return x * sigmoid(x);
  }
}

}  // namespace dsm_ext::cpu
