// The text of the CUDA kernel of attention, run on the CPU, against the definition in float64.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tensor_core_on_cpu.h"

// The kernel comes after the functions that it calls.
#include "attention_kernel.cuh"

namespace cuda = dsm_ext::cuda;

namespace {

const uint16_t* data(const at::Tensor& x) {
  return static_cast<const uint16_t*>(x.const_data_ptr());
}

cuda::HeadStrides strides(const at::Tensor& x) { return {x.stride(0), x.stride(1), x.stride(2)}; }

// q [B, H, rows, D], k and v [B, H, N, D], bias [B, N] or undefined.
template <bool kBfloat16, int kDim, int kTiles, int kStep>
at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias,
    unsigned warps, int splits) {
  const int64_t images = q.size(0), heads = q.size(1), rows = q.size(2);
  auto out = at::full({images, rows, heads, q.size(3)}, -7, q.options());
  const cuda::AttentionArguments arguments{
      .q = data(q),
      .k = data(k),
      .v = data(v),
      .q_strides = strides(q),
      .k_strides = strides(k),
      .v_strides = strides(v),
      .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
      .bias_stride = bias.defined() ? bias.stride(0) : 0,
      .bias_float32 = bias.defined() && bias.scalar_type() == at::kFloat,
      .scale = 1 / std::sqrt(static_cast<float>(q.size(3))),
      .heads = static_cast<int32_t>(heads),
      .rows = static_cast<int32_t>(rows),
      .tokens = static_cast<int32_t>(k.size(2)),
      .dim = static_cast<int32_t>(q.size(3)),
      .splits = splits,
      .out = static_cast<uint16_t*>(out.mutable_data_ptr())};
  cuda_on_cpu::launch(
      images * heads * splits, 32 * warps, cuda::attention_shared_bytes<kDim>(k.size(2)),
      [&] { cuda::attention_kernel_impl<kBfloat16, kDim, kTiles, kStep>(arguments); });
  return out;
}

// Rounding the exponentials moves a result by at most half a unit of the mean of |v| that they
// weigh; rounding the result, by half a unit of it.
void expect_close(
    const at::Tensor& actual, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const at::Tensor& bias) {
  auto scores = at::matmul(q.to(at::kDouble), k.to(at::kDouble).transpose(2, 3)) /
                std::sqrt(static_cast<double>(q.size(3)));
  if (bias.defined()) {
    scores = scores + bias.to(at::kDouble).unsqueeze(1).unsqueeze(1);
  }
  const auto weights = at::softmax(scores, -1);
  const auto values = v.to(at::kDouble);
  const auto expected = at::matmul(weights, values).transpose(1, 2);
  const auto moved = at::matmul(weights, values.abs()).transpose(1, 2);
  const double unit = actual.scalar_type() == at::kHalf ? 1. / 2048 : 1. / 256;
  const auto error = (actual.to(at::kDouble) - expected).abs();
  EXPECT_TRUE((error <= unit * (expected.abs() + moved) + 1e-6).all().item<bool>())
      << (error / (expected.abs() + moved)).max().item<double>() / unit;
}

struct Case {
  int64_t tokens, rows;
  unsigned warps;
  int splits;
};

template <bool kBfloat16, int kDim, int kTiles, int kStep>
void test(const Case& c, int64_t dim = kDim) {
  at::manual_seed(0);
  const auto dtype = kBfloat16 ? at::kBFloat16 : at::kHalf;
  const auto qkv = at::randn({2, c.tokens, 3, 2, dim}).to(dtype).permute({2, 0, 3, 1, 4});
  const auto q = qkv[0].narrow(2, 0, c.rows), k = qkv[1], v = qkv[2];
  const auto bias = at::randint(1, 9, {2, c.tokens + 3}).log();
  for (const auto& given : {bias.to(dtype), bias, at::Tensor()}) {
    const auto own = given.defined() ? given.narrow(1, 0, c.tokens) : given;
    const auto actual = attend<kBfloat16, kDim, kTiles, kStep>(q, k, v, own, c.warps, c.splits);
    expect_close(actual, q, k, v, own);
  }
}

TEST(AttentionKernel, EqualsTheDefinition) {
  for (const auto& c : {Case{1, 1, 2, 1}, {7, 7, 2, 1}, {64, 64, 4, 1}, {165, 165, 4, 1}}) {
    test<true, 64, 1, 64>(c);
    test<false, 64, 1, 64>(c);
    test<true, 64, 2, 32>(c);
  }
}

TEST(AttentionKernel, ComputesTheFirstRows) {
  test<true, 64, 1, 64>({101, 1, 4, 1});
  test<true, 64, 1, 64>({101, 37, 2, 2});
}

TEST(AttentionKernel, StreamsLongSequences) {
  test<true, 64, 1, 64>({337, 337, 4, 6});
  test<false, 64, 2, 64>({385, 385, 4, 4});
}

TEST(AttentionKernel, TakesOtherWidths) {
  test<true, 32, 1, 64>({53, 53, 4, 1});
  test<true, 80, 1, 64>({53, 53, 4, 1}, 72);
  test<true, 80, 1, 64>({53, 53, 4, 1});
  test<true, 96, 1, 64>({53, 53, 4, 1}, 88);
  test<true, 128, 1, 32>({53, 53, 4, 1});
}

TEST(AttentionKernel, KeepsWhatIsNotFinite) {
  at::manual_seed(0);
  const auto run = [](const at::Tensor& qkv, const at::Tensor& bias) {
    return attend<true, 64, 1, 64>(qkv[0], qkv[1], qkv[2], bias, 4, 1);
  };
  const auto qkv = at::randn({3, 2, 1, 80, 64}).to(at::kBFloat16);
  auto bias = at::zeros({2, 80});
  const auto before = run(qkv, bias);
  auto wrong = qkv.clone();
  wrong[1][1][0][79][3] = std::numeric_limits<float>::quiet_NaN();
  const auto after = run(wrong, bias);
  EXPECT_TRUE(at::equal(after[0], before[0]));
  EXPECT_TRUE(after[1].isnan().all().item<bool>());
  // Keys of the bias -inf count for nothing, even if they are all that was seen so far.
  bias.narrow(1, 0, 70).fill_(-std::numeric_limits<float>::infinity());
  expect_close(run(qkv, bias), qkv[0], qkv[1], qkv[2], bias);
}

TEST(AttentionKernel, KeepsItsScaleWhileTheMaximumRisesLittle) {
  at::manual_seed(0);
  const auto qkv = at::randn({3, 1, 1, 250, 64}).to(at::kHalf);
  for (const double step : {.01, 1., 30.}) {
    const auto bias = (at::arange(250, at::kFloat) * step).unsqueeze(0);
    expect_close(
        attend<false, 64, 1, 64>(qkv[0], qkv[1], qkv[2], bias, 4, 1), qkv[0], qkv[1], qkv[2], bias);
  }
}

}  // namespace
