// Descriptors of products for cuBLASLt, carried out on the CPU.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cublaslt_product.h"
#include "product_on_cpu.h"

namespace cuda = dsm_ext::cuda;

namespace {

at::Tensor carry_out(
    const cuda::ProductShape& shape, const at::Tensor& input, const at::Tensor& weight,
    const at::Tensor& bias, const at::Tensor& addend) {
  cuda::Product product(shape, shape.bias ? bias.const_data_ptr() : nullptr);
  auto out = at::zeros({shape.rows, shape.outputs}, input.options());
  const auto* c = shape.addend ? addend.const_data_ptr() : out.const_data_ptr();
  product_on_cpu::Product(
      &product.operation, weight.const_data_ptr(), &product.weight, input.const_data_ptr(),
      &product.input, shape.addend ? 1 : 0, c, &product.out, out.mutable_data_ptr(), &product.out)
      .carry_out();
  return out;
}

TEST(Product, IsALinearLayerWithAnAddendOrGelu) {
  at::manual_seed(0);
  const int64_t rows = 7, inputs = 5, outputs = 3;
  const auto input = at::randn({rows, inputs}), weight = at::randn({outputs, inputs});
  const auto bias = at::randn(outputs), addend = at::randn({rows, outputs});
  for (const bool with_bias : {false, true}) {
    const auto linear = at::linear(input, weight, with_bias ? std::optional(bias) : std::nullopt);
    for (const bool with_addend : {false, true}) {
      const auto out = carry_out(
          {rows, inputs, outputs, CUDA_R_32F, false, with_bias, with_addend, false}, input, weight,
          bias, addend);
      EXPECT_TRUE(at::allclose(out, with_addend ? linear + addend : linear, 1e-5, 1e-6));
    }
    const auto out = carry_out(
        {rows, inputs, outputs, CUDA_R_32F, false, with_bias, false, true}, input, weight, bias,
        addend);
    EXPECT_TRUE(at::allclose(out, at::gelu(linear, "tanh"), 1e-5, 1e-6));
  }
}

TEST(Product, TakesHalfPrecision) {
  at::manual_seed(0);
  for (const auto& [type, dtype] :
       {std::pair{CUDA_R_16F, at::kHalf}, std::pair{CUDA_R_16BF, at::kBFloat16}}) {
    const auto of = [&](at::IntArrayRef shape) { return at::randn(shape).to(dtype); };
    const auto input = of({4, 8}), weight = of({6, 8}), bias = of({6}), addend = of({4, 6});
    const auto out =
        carry_out({4, 8, 6, type, false, true, true, false}, input, weight, bias, addend);
    const auto exact =
        at::linear(input.to(at::kFloat), weight.to(at::kFloat), bias.to(at::kFloat)) +
        addend.to(at::kFloat);
    EXPECT_TRUE(at::equal(out, exact.to(dtype)));
  }
}

TEST(Product, SumsInFloat32) {
  for (const bool tf32 : {false, true}) {
    cuda::Product product({1, 1, 1, CUDA_R_32F, tf32, false, false, false}, nullptr);
    const auto get = [&](cublasLtMatmulDescAttributes_t attribute) {
      return product_on_cpu::get<int32_t>(&product.operation, attribute);
    };
    EXPECT_EQ(
        get(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE),
        tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
    EXPECT_EQ(get(CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUDA_R_32F);
    EXPECT_EQ(get(CUBLASLT_MATMUL_DESC_POINTER_MODE), CUBLASLT_POINTER_MODE_HOST);
  }
}

}  // namespace
