#pragma once

#include <c10/util/Exception.h>
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// A linear layer as cuBLASLt describes it: out = input weight^T + bias + addend, or GELU of that,
// which is there the tanh form. Matrices there are
// column by column, so the rows here are its columns: out^T [outputs, rows] = weight^T transposed
// [outputs, inputs] times input^T [inputs, rows]. The sum is float32 and rounded once.

#define DSM_EXT_CUBLAS_CHECK(call)                                                       \
  do {                                                                                   \
    const cublasStatus_t dsm_ext_status = (call);                                        \
    TORCH_CHECK(                                                                         \
        dsm_ext_status == CUBLAS_STATUS_SUCCESS,                                         \
        "dsm_ext: cuBLASLt: ", cublasLtGetStatusString(dsm_ext_status), " from " #call); \
  } while (false)

namespace dsm_ext::cuda {

struct ProductShape {
  int64_t rows, inputs, outputs;
  cudaDataType_t type;  // of all four
  bool tf32;            // whether float32 values may be rounded to TF32
  bool bias, addend, gelu_tanh;

  bool operator==(const ProductShape&) const = default;
};

/// Descriptors of a product. They hold no device memory and need no device.
struct Product {
  /// \param bias  Null where there is none.
  Product(const ProductShape& shape, const void* bias) {
    const auto compute = shape.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    DSM_EXT_CUBLAS_CHECK(cublasLtMatmulDescInit(&operation, compute, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE,
        shape.gelu_tanh ? shape.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU
        : shape.bias    ? CUBLASLT_EPILOGUE_BIAS
                        : CUBLASLT_EPILOGUE_DEFAULT);
    if (shape.bias) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    const auto lay_out = [&](cublasLtMatrixLayoutOpaque_t& layout, int64_t rows, int64_t columns) {
      DSM_EXT_CUBLAS_CHECK(cublasLtMatrixLayoutInit(&layout, shape.type, rows, columns, rows));
    };
    lay_out(weight, shape.inputs, shape.outputs);
    lay_out(input, shape.inputs, shape.rows);
    lay_out(out, shape.outputs, shape.rows);
  }

  template <typename Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    DSM_EXT_CUBLAS_CHECK(
        cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value));
  }

  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight, input, out;  // A, B, and both C, the addend's, and D
};

}  // namespace dsm_ext::cuda
