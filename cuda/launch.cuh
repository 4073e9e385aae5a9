#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Helpers of the launchers (.cu). The kernels' own files (.cuh) include no torch header.

// Declares the dynamic shared memory, whose size the launch gives.
#define DSM_EXT_DYNAMIC_SHARED(Type, name) extern __shared__ __align__(16) Type name[]

// Unrolls the next loop, so that an array that it indexes can lie in registers.
#define DSM_EXT_UNROLL _Pragma("unroll")

namespace dsm_ext::cuda {

constexpr int kThreads = 256;
constexpr int64_t kSharedBytes = 48 * 1024;  // a launch may have these on every device

/// The smallest number of blocks of kThreads threads that covers n.
inline int64_t blocks_for(int64_t n) { return (n + kThreads - 1) / kThreads; }

inline int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

/// Checks that the kernels are compiled for the current device.
/// \throws c10::NotImplementedError for compute capability 7.5 or older.
inline void check_device(const char* op) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor);
  TORCH_CHECK_NOT_IMPLEMENTED(
      major >= 8, "dsm_ext.", op, ": expected a GPU of compute capability 8.0 or newer, got ",
      major, ".", attribute(cudaDevAttrComputeCapabilityMinor));
}

/// Allows a kernel to have `bytes` of dynamic shared memory. When these are more than kSharedBytes,
/// it allows the device's maximum, always the same value, because several threads may do this for
/// one kernel at once. The kernel must have no static shared memory.
/// \throws c10::NotImplementedError when the device has less.
template <typename Kernel>
void allow_shared(const char* op, Kernel* kernel, int64_t bytes) {
  if (bytes <= kSharedBytes) {
    return;
  }
  const int64_t most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  TORCH_CHECK_NOT_IMPLEMENTED(
      bytes <= most, "dsm_ext.", op, ": too large for this GPU: it would take ", bytes,
      " bytes of shared memory, and there are ", most);
  C10_CUDA_CHECK(cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
      static_cast<int>(most)));
}

}  // namespace dsm_ext::cuda
