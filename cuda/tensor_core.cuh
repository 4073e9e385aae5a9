#ifndef DSM_EXT_TENSOR_CORE
#define DSM_EXT_TENSOR_CORE

#include <cstdint>

// Instructions of tensor cores, of the copies that fill shared memory for them, and the exchange of
// values in a quad, four neighbouring lanes. For compute capability 8.0 or newer. Two 16-bit values
// share a word. Addresses of shared memory have 32 bits, so that offsets cost no arithmetic.
// tests/cpp/tensor_core_on_cpu.h has the same functions for the CPU; the file that is included
// first counts.

namespace dsm_ext::cuda {

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/// Starts to copy 16 bytes from global to shared memory. If not `valid`, it reads nothing and
/// writes zeros.
__device__ inline void copy_async(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}

/// Puts the copies that this thread has started since the last call into one group.
__device__ inline void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Starts to bring the line at an address into the L2 cache.
__device__ inline void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/// Reads four matrices of 8 x 8 values. Lane 8 i + r gives the address of row r of matrix i, 16
/// bytes. Lane 4 r + t gets word t of row r of each matrix.
__device__ inline void load_matrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row));
}

/// The same, and transposes each matrix.
__device__ inline void load_transposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row));
}

/// sum [16, 8] += a [16, 16] b [16, 8]. Lane 4 r + t has columns 2 t and 2 t + 1 of rows r and
/// r + 8 of the sum.
template <bool kBfloat16>
__device__ inline void multiply_add(
    float (&sum)[4], const uint32_t (&a)[4], uint32_t b_low, uint32_t b_high) {
  if constexpr (kBfloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  }
}

/// Rounds two values into one word.
template <bool kBfloat16>
__device__ inline uint32_t rounded(float low, float high) {
  uint32_t word;
  if constexpr (kBfloat16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
}

template <bool kBfloat16>
__device__ inline float widened(uint16_t value) {
  if constexpr (kBfloat16) {
    return __uint_as_float(static_cast<uint32_t>(value) << 16);
  } else {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
  }
}

/// 2^x, with a relative error of 2^-22.
__device__ inline float exp2_fast(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

}  // namespace dsm_ext::cuda

#endif
