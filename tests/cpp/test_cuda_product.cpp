// How a product is described to cuBLASLt: the descriptors are read back by its own functions, which
// need no GPU, and carried out on the CPU as its documentation says they are.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "product.h"

namespace cuda = dsm_ext::cuda;

namespace {

struct Matrix {
  explicit Matrix(cublasLtMatrixLayoutOpaque_t& layout) : layout_(layout) {
    EXPECT_EQ(get<int32_t>(CUBLASLT_MATRIX_LAYOUT_ORDER), CUBLASLT_ORDER_COL);
    EXPECT_EQ(get<int32_t>(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT), 1);
    EXPECT_EQ(get<int32_t>(CUBLASLT_MATRIX_LAYOUT_TYPE), CUDA_R_32F);
  }

  template <typename Value>
  Value get(cublasLtMatrixLayoutAttribute_t attribute) const {
    Value value{};
    size_t written = 0;
    EXPECT_EQ(
        cublasLtMatrixLayoutGetAttribute(&layout_, attribute, &value, sizeof value, &written),
        CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(written, sizeof value);
    return value;
  }

  // A matrix of so many rows and columns, column by column, `ld` apart.
  at::Tensor of(float* data) const {
    const auto rows = static_cast<int64_t>(get<uint64_t>(CUBLASLT_MATRIX_LAYOUT_ROWS));
    const auto columns = static_cast<int64_t>(get<uint64_t>(CUBLASLT_MATRIX_LAYOUT_COLS));
    return at::from_blob(data, {rows, columns}, {1, get<int64_t>(CUBLASLT_MATRIX_LAYOUT_LD)});
  }

  cublasLtMatrixLayoutOpaque_t& layout_;
};

template <typename Value>
Value get(cuda::Product& product, cublasLtMatmulDescAttributes_t attribute) {
  Value value{};
  size_t written = 0;
  EXPECT_EQ(
      cublasLtMatmulDescGetAttribute(&product.operation, attribute, &value, sizeof value, &written),
      CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(written, sizeof value);
  return value;
}

at::Tensor transposed_if(const at::Tensor& matrix, int32_t operation) {
  EXPECT_TRUE(operation == CUBLAS_OP_N || operation == CUBLAS_OP_T);
  return operation == CUBLAS_OP_T ? matrix.t() : matrix;
}

// D = A B + C, with the epilogue's bias for each of D's rows.
void carry_out(cuda::Product& product, float* a, float* b, float* c, float* d) {
  const auto left = transposed_if(
      Matrix(product.weight).of(a), get<int32_t>(product, CUBLASLT_MATMUL_DESC_TRANSA));
  const auto right = transposed_if(
      Matrix(product.input).of(b), get<int32_t>(product, CUBLASLT_MATMUL_DESC_TRANSB));
  auto result = left.matmul(right);
  if (c != nullptr) {
    result = result + Matrix(product.out).of(c);
  }
  const auto epilogue = get<int32_t>(product, CUBLASLT_MATMUL_DESC_EPILOGUE);
  if (epilogue == CUBLASLT_EPILOGUE_BIAS) {
    auto* bias = get<float*>(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
    result = result + at::from_blob(bias, {result.size(0), 1});
  } else {
    EXPECT_EQ(epilogue, CUBLASLT_EPILOGUE_DEFAULT);
  }
  Matrix(product.out).of(d).copy_(result);
}

TEST(Product, IsALinearLayerWithAnAddend) {
  at::manual_seed(0);
  const int64_t rows = 7, inputs = 5, outputs = 3;
  auto input = at::randn({rows, inputs}), weight = at::randn({outputs, inputs});
  auto bias = at::randn(outputs), addend = at::randn({rows, outputs});
  for (const bool with_bias : {false, true}) {
    for (const bool with_addend : {false, true}) {
      cuda::Product product(
          {rows, inputs, outputs, CUDA_R_32F, false, with_bias, with_addend},
          with_bias ? bias.const_data_ptr() : nullptr);
      auto out = at::zeros({rows, outputs});
      carry_out(
          product, weight.mutable_data_ptr<float>(), input.mutable_data_ptr<float>(),
          with_addend ? addend.mutable_data_ptr<float>() : nullptr, out.mutable_data_ptr<float>());
      auto expected = at::linear(input, weight, with_bias ? std::optional(bias) : std::nullopt);
      expected = with_addend ? expected + addend : expected;
      EXPECT_TRUE(at::allclose(out, expected, 1e-5, 1e-6));
    }
  }
}

TEST(Product, SumsInFloat32) {
  for (const bool tf32 : {false, true}) {
    cuda::Product product({1, 1, 1, CUDA_R_32F, tf32, false, false}, nullptr);
    EXPECT_EQ(
        get<int32_t>(product, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE),
        tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
    EXPECT_EQ(get<int32_t>(product, CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUDA_R_32F);
    EXPECT_EQ(get<int32_t>(product, CUBLASLT_MATMUL_DESC_POINTER_MODE), CUBLASLT_POINTER_MODE_HOST);
  }
}

}  // namespace
