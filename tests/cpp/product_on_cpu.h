#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <cublasLt.h>

// Computes on the CPU a product that is described to cuBLASLt, as cuBLASLt's documentation defines
// it. It reads the descriptors by cuBLASLt's own functions, which need no GPU.

namespace product_on_cpu {

/// Reads one attribute of a descriptor.
/// \param read  cuBLASLt's function for descriptors of this kind.
template <typename Value, typename Descriptor, typename Attribute>
Value read_by(
    cublasStatus_t (*read)(Descriptor, Attribute, void*, size_t, size_t*), Descriptor descriptor,
    Attribute attribute) {
  Value value{};
  size_t written = 0;
  const auto status = read(descriptor, attribute, &value, sizeof value, &written);
  TORCH_CHECK(status == CUBLAS_STATUS_SUCCESS && written == sizeof value, "no such attribute");
  return value;
}

template <typename Value>
Value get(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute) {
  return read_by<Value>(&cublasLtMatrixLayoutGetAttribute, layout, attribute);
}

template <typename Value>
Value get(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute) {
  return read_by<Value>(&cublasLtMatmulDescGetAttribute, operation, attribute);
}

inline at::ScalarType dtype_of(int32_t type) {
  switch (type) {
    case CUDA_R_32F:
      return at::kFloat;
    case CUDA_R_16F:
      return at::kHalf;
    case CUDA_R_16BF:
      return at::kBFloat16;
    default:
      TORCH_CHECK(false, "a type that is not expected: ", type);
  }
}

/// The matrix of a layout as a tensor. cuBLASLt stores it column by column; `ld` is the stride
/// between two columns.
inline at::Tensor matrix(cublasLtMatrixLayout_t layout, const void* data) {
  TORCH_CHECK(get<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_ORDER) == CUBLASLT_ORDER_COL);
  TORCH_CHECK(get<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) == 1);
  const auto rows = static_cast<int64_t>(get<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS));
  const auto columns = static_cast<int64_t>(get<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS));
  return at::from_blob(
      const_cast<void*>(data), {rows, columns},
      {1, get<int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD)},
      dtype_of(get<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE)));
}

/// A product that has copied all it needs, so its descriptors may end before `carry_out`.
struct Product {
  Product(
      cublasLtMatmulDesc_t operation, const void* a_data, cublasLtMatrixLayout_t a_layout,
      const void* b_data, cublasLtMatrixLayout_t b_layout, float factor, const void* c_data,
      cublasLtMatrixLayout_t c_layout, void* d_data, cublasLtMatrixLayout_t d_layout)
      : a(operand(operation, CUBLASLT_MATMUL_DESC_TRANSA, a_layout, a_data)),
        b(operand(operation, CUBLASLT_MATMUL_DESC_TRANSB, b_layout, b_data)),
        c(matrix(c_layout, c_data)),
        d(matrix(d_layout, d_data)),
        beta(factor),
        epilogue(get<int32_t>(operation, CUBLASLT_MATMUL_DESC_EPILOGUE)) {
    if (epilogue & CUBLASLT_EPILOGUE_BIAS) {
      bias = at::from_blob(
          get<void*>(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER), {d.size(0), 1}, d.options());
    }
  }

  /// Computes D = epilogue(A B + beta C + bias), summed in float32 and rounded once.
  void carry_out() const {
    auto sum = a.to(at::kFloat).matmul(b.to(at::kFloat));
    if (beta != 0) {
      sum = sum + c.to(at::kFloat) * beta;
    }
    if (bias.defined()) {
      sum = sum + bias.to(at::kFloat);
    }
    switch (epilogue) {
      case CUBLASLT_EPILOGUE_DEFAULT:
      case CUBLASLT_EPILOGUE_BIAS:
        break;
      case CUBLASLT_EPILOGUE_GELU:
      case CUBLASLT_EPILOGUE_GELU_BIAS:
        sum = at::gelu(sum, "tanh");
        break;
      default:
        TORCH_CHECK(false, "an epilogue that is not expected: ", epilogue);
    }
    at::Tensor(d).copy_(sum);
  }

  at::Tensor a, b, c, d, bias;
  float beta;
  int32_t epilogue;

 private:
  static at::Tensor operand(
      cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
      cublasLtMatrixLayout_t layout, const void* data) {
    const auto transposed = get<int32_t>(operation, attribute);
    TORCH_CHECK(transposed == CUBLAS_OP_N || transposed == CUBLAS_OP_T);
    const auto whole = matrix(layout, data);
    return transposed == CUBLAS_OP_T ? whole.t() : whole;
  }
};

}  // namespace product_on_cpu
