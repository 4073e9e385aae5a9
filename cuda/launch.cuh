#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// What the launchers share. The kernels' own files (.cuh) know no torch header.

// Shared memory whose size the launch says.
#define DSM_EXT_DYNAMIC_SHARED(Type, name) extern __shared__ __align__(16) Type name[]

namespace dsm_ext::cuda {

constexpr int kThreads = 256;
constexpr int64_t kSharedBytes = 48 * 1024;  // what every device has without asking

/// The smallest number of blocks of kThreads that covers n; 64-bit, as sizes are.
inline int64_t blocks_for(int64_t n) { return (n + kThreads - 1) / kThreads; }

inline int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

/// \throws c10::NotImplementedError for a device that the kernels are not compiled for.
inline void check_device(const char* op) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor);
  TORCH_CHECK_NOT_IMPLEMENTED(
      major >= 8, "dsm_ext.", op, ": expected a GPU of compute capability 8.0 or newer, got ",
      major, ".", attribute(cudaDevAttrComputeCapabilityMinor));
}

/// Lets a kernel have as much dynamic shared memory as there is, where it needs more than every
/// device has without asking; it has no other. Always the same: threads launch it at once.
/// \throws c10::NotImplementedError where the device has less.
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
