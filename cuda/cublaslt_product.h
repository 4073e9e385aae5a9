#pragma once

#include <c10/util/Exception.h>
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// A linear layer as a product of cuBLASLt: out = input weight^T + bias + addend, or
// gelu(input weight^T + bias) in the tanh form, the only one that cuBLASLt has. It sums in float32
// and rounds once.
//
// cuBLASLt stores a matrix column by column, so a row here is a column there. The product there is
// out^T [outputs, rows] = weight [outputs, inputs] times input^T [inputs, rows], and the weight's
// matrix there is weight^T [inputs, outputs], to be transposed.

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
  cudaDataType_t type;  // of input, weight, bias, addend and out
  bool tf32;            // whether float32 values may be rounded to TF32
  bool bias, addend, gelu_tanh;

  bool operator==(const ProductShape&) const = default;
};

/// The descriptors of a product. They hold no device memory, and making them needs no device.
struct Product {
  /// \param bias  Its address on the device; null when the shape has no bias.
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
  cublasLtMatrixLayoutOpaque_t weight, input, out;  // cuBLASLt's A, B and D; C (addend) is as D
};

}  // namespace dsm_ext::cuda
