#ifndef DSM_EXT_TENSOR_CORE
#define DSM_EXT_TENSOR_CORE

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>

#include "cuda_on_cpu.h"

// The functions of cuda/tensor_core.cuh, for kernels that run on the CPU. An address of shared
// memory is an offset. A copy happens at once, so that a missing wait is not found.

namespace dsm_ext::cuda {

inline char* in_shared(uint32_t address) {
  return static_cast<char*>(cuda_on_cpu::thread->shared->shared_memory()) + address;
}

inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(static_cast<const char*>(shared) - in_shared(0));
}

inline void copy_async(uint32_t to, const void* from, bool valid) {
  valid ? std::memcpy(in_shared(to), from, 16) : std::memset(in_shared(to), 0, 16);
}

inline void end_copy_group() {}

template <int kPending>
void wait_for_copies() {}

inline void prefetch(const void*) {}

/// Value `column` of row `row` of matrix `matrix`, for the rows that the lanes have given.
inline uint32_t matrix_value(
    const cuda_on_cpu::Block::Exchange& rows, unsigned matrix, unsigned row, unsigned column) {
  uint16_t value;
  std::memcpy(&value, in_shared(rows.words[8 * matrix + row][0]) + 2 * column, 2);
  return value;
}

template <bool kTransposed>
void load_any_matrices(uint32_t (&to)[4], uint32_t address) {
  const auto& rows = cuda_on_cpu::exchange_in_warp(
      [&](auto& all, unsigned lane) { all.words[lane][0] = address; });
  const auto value = [&](unsigned matrix, unsigned row, unsigned column) {
    return kTransposed ? matrix_value(rows, matrix, column, row)
                       : matrix_value(rows, matrix, row, column);
  };
  const unsigned lane = threadIdx.x % cuda_on_cpu::kWarp, r = lane / 4, t = lane % 4;
  for (unsigned i = 0; i < 4; ++i) {
    to[i] = value(i, r, 2 * t) | value(i, r, 2 * t + 1) << 16;
  }
}

inline void load_matrices(uint32_t (&to)[4], uint32_t row) { load_any_matrices<false>(to, row); }

inline void load_transposed(uint32_t (&to)[4], uint32_t row) { load_any_matrices<true>(to, row); }

template <bool kBfloat16>
float widened(uint16_t value) {
  if constexpr (kBfloat16) {
    return c10::BFloat16(value, c10::BFloat16::from_bits());
  } else {
    return c10::Half(value, c10::Half::from_bits());
  }
}

template <bool kBfloat16>
uint32_t rounded(float low, float high) {
  using T = std::conditional_t<kBfloat16, c10::BFloat16, c10::Half>;
  return T(low).x | static_cast<uint32_t>(T(high).x) << 16;
}

template <bool kBfloat16>
float half_of(uint32_t word, unsigned which) {
  return widened<kBfloat16>(static_cast<uint16_t>(word >> (16 * which)));
}

template <bool kBfloat16>
void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high) {
  const auto& given = cuda_on_cpu::exchange_in_warp([&](auto& all, unsigned lane) {
    std::memcpy(all.words[lane], a, sizeof a);
    all.words[lane][4] = b_low;
    all.words[lane][5] = b_high;
  });
  const unsigned lane = threadIdx.x % cuda_on_cpu::kWarp, r = lane / 4, t = lane % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned upper = i / 2, column = 2 * t + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const uint32_t left = given.words[4 * r + k % 8 / 2][upper + k / 8 * 2];
      const uint32_t right = given.words[4 * column + k % 8 / 2][4 + k / 8];
      sum[i] += half_of<kBfloat16>(left, k % 2) * half_of<kBfloat16>(right, k % 2);
    }
  }
}

inline float exp2_fast(float x) { return std::exp2(x); }

}  // namespace dsm_ext::cuda

#endif
