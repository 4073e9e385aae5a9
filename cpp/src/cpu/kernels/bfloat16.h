#pragma once

#include <bit>
#include <cstdint>

namespace dsm_ext::cpu {

/// A bfloat16 of the same bits as c10::BFloat16. Its conversions have no branches, and a float is
/// assigned and not copied as a BFloat16, so that compilers can vectorize loops over it.
struct BFloat16 {
  /// Rounds to nearest, ties to even. NaN stays NaN.
  BFloat16& operator=(float x) {
    const uint32_t from = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (from + 0x7fffu + ((from >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>((from & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
    return *this;
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }

  uint16_t bits = 0;
};

}  // namespace dsm_ext::cpu
