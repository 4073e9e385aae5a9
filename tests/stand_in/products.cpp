// Carries out cuBLASLt's products on the CPU, as their descriptors define them.

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include "product_on_cpu.h"
#include "runtime.h"

namespace {

cublasStatus_t algorithm(
    cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
    cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
    cublasLtMatmulHeuristicResult_t* results, int* count) {
  if (std::getenv("DSM_EXT_STAND_IN_NO_ALGORITHM") != nullptr) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  results[0] = {};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t multiply(
    cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
    cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
    const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
    cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void* workspace, size_t bytes,
    cudaStream_t stream) {
  TORCH_CHECK(*static_cast<const float*>(alpha) == 1);
  TORCH_CHECK(reinterpret_cast<uintptr_t>(workspace) % 256 == 0);
  const product_on_cpu::Product product(
      operation, a, a_layout, b, b_layout, *static_cast<const float*>(beta), c, c_layout, d,
      d_layout);
  stand_in::put(stream, [=] {
    const c10::InferenceMode mode;
    std::memset(workspace, 0x7f, std::min<size_t>(bytes, 4096));  // the product may overwrite it
    product.carry_out();
  });
  return CUBLAS_STATUS_SUCCESS;
}

const bool given = [] {
  stand_in::products() = {reinterpret_cast<void*>(&algorithm), reinterpret_cast<void*>(&multiply)};
  return true;
}();

}  // namespace
