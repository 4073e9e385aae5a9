// The text of the CUDA kernels of merging, norms and unmerging, run on the CPU, against the CPU's
// own operators.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "dsm_ext/ops.h"
#include "merge_kernel.cuh"
#include "norm_kernel.cuh"
#include "row_shape.h"
#include "unmerge_kernel.cuh"

namespace cuda = dsm_ext::cuda;

namespace {

struct Result {
  at::Tensor tokens, size, normed, log_size;
};

// A norm and its parameters. Without a weight there is no norm.
struct Norm {
  at::Tensor weight, bias;
  double eps = 1e-5;
  bool rms = false;

  at::Tensor operator()(const at::Tensor& x) const {
    return rms ? at::rms_norm(x, weight.sizes(), weight, eps)
               : at::layer_norm(x, weight.sizes(), weight, bias, eps);
  }

  template <typename T>
  cuda::NormArguments<T> of() const {
    return {
        weight.defined() ? weight.const_data_ptr<T>() : nullptr,
        bias.defined() ? bias.const_data_ptr<T>() : nullptr, static_cast<float>(eps), rms};
  }
};

Norm norm_of(int64_t channels, at::ScalarType dtype, bool rms) {
  return {
      at::randn(channels).to(dtype), rms ? at::Tensor() : at::randn(channels).to(dtype), 1e-5, rms};
}

template <typename T>
Result merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t rows,
    const Norm& norm = {}) {
  const int64_t images = x.size(0), tokens = x.size(1), channels = x.size(2);
  const bool normed = norm.weight.defined();
  const int64_t padded = (rows + 15) / 16 * 16;
  Result result{
      at::full({images, rows, channels}, -7, x.options()), at::full({images, rows}, -7, at::kFloat),
      at::full({images, rows, channels}, -7, x.options()),
      at::full({images, padded}, -7, x.options())};
  const cuda::MergeInput<T> from{
      x.const_data_ptr<T>(),
      size.defined() ? size.const_data_ptr<float>() : nullptr,
      destination.const_data_ptr<int32_t>(),
      static_cast<int32_t>(images),
      static_cast<int32_t>(tokens),
      static_cast<int32_t>(rows),
      static_cast<int32_t>(channels)};
  const cuda::MergeOutput<T> into{
      result.tokens.mutable_data_ptr<T>(), result.size.mutable_data_ptr<float>(),
      normed ? result.normed.mutable_data_ptr<T>() : nullptr,
      normed ? result.log_size.mutable_data_ptr<T>() : nullptr, static_cast<int32_t>(padded)};
  cuda::with_row_shape(channels, [&]<int kPack, int kSteps>() {
    cuda_on_cpu::launch(cuda::row_blocks(images * rows), 32 * cuda::kRowWarps, 0, [&] {
      cuda::merge_kernel_impl<T, kPack, kSteps>(from, into, norm.of<T>());
    });
  });
  return result;
}

TEST(MergeKernel, EqualsTheCpus) {
  at::manual_seed(0);
  for (const int64_t tokens : {3, 50, 197}) {
    const int64_t r = tokens / 3;
    const auto x = at::randn({2, tokens, tokens == 50 ? 40 : 37});
    const auto size = at::randint(1, 9, {2, tokens}).to(at::kFloat);
    const auto destination = dsm_ext::match(x, r, 1);
    const auto [expected, expected_size] = dsm_ext::merge(x, size, destination, tokens - r);
    const auto merged = merge<float>(x, size, destination, tokens - r);
    EXPECT_TRUE(at::allclose(merged.tokens, expected, 1e-6, 1e-6));
    EXPECT_TRUE(at::equal(merged.size, expected_size));
  }
}

// Merging with a norm gives what merging and then the norm give, with sizes or without.
TEST(MergeKernel, ANormFollows) {
  at::manual_seed(0);
  const int64_t tokens = 45, rows = 30;
  for (const int64_t channels : {21, 64, 200, 280, 1100}) {
    for (const bool rms : {false, true}) {
      const auto norm = norm_of(channels, at::kFloat, rms);
      const auto x = at::randn({2, tokens, channels});
      const auto destination = dsm_ext::match(x, tokens - rows, 1);
      for (const auto& size : {at::Tensor(), at::randint(1, 9, {2, tokens}).to(at::kFloat)}) {
        const auto [expected, sizes] =
            dsm_ext::merge(x, size.defined() ? size : at::ones({2, tokens}), destination, rows);
        const auto merged = merge<float>(x, size, destination, rows, norm);
        EXPECT_TRUE(at::allclose(merged.tokens, expected, 1e-6, 1e-6));
        EXPECT_TRUE(at::allclose(merged.normed, norm(expected), 1e-5, 1e-5));
        EXPECT_TRUE(at::equal(merged.size, sizes));
        EXPECT_TRUE(at::allclose(merged.log_size.narrow(1, 0, rows), sizes.log()));
        EXPECT_TRUE(at::equal(merged.log_size.narrow(1, rows, 2), at::zeros({2, 2})));
      }
    }
  }
}

// In half precision the norm is of the tokens after they were rounded.
TEST(MergeKernel, TheNormIsOfRoundedTokens) {
  at::manual_seed(0);
  const auto x = at::randn({2, 20, 32}).to(at::kBFloat16);
  const auto norm = norm_of(32, at::kBFloat16, false);
  const auto merged = merge<at::BFloat16>(x, at::Tensor(), dsm_ext::match(x, 7, 1), 13, norm);
  const auto exact =
      Norm{norm.weight.to(at::kFloat), norm.bias.to(at::kFloat)}(merged.tokens.to(at::kFloat));
  EXPECT_TRUE(at::allclose(merged.normed.to(at::kFloat), exact, 1.0 / 256, 1e-6));
}

// A token that nothing merged into keeps its bits.
TEST(MergeKernel, TokensThatDidNotMergeKeepTheirBits) {
  const auto x = at::randn({1, 6, 5}).to(at::kBFloat16);
  const auto destination = at::tensor({2, 0, 2, 1, 2, 3}, at::kInt).view({1, 6});
  const auto merged = merge<at::BFloat16>(x, at::full({1, 6}, 3.f), destination, 4);
  for (const auto& [from, to] : std::vector<std::pair<int, int>>{{1, 0}, {3, 1}, {5, 3}}) {
    EXPECT_TRUE(at::equal(merged.tokens[0][to], x[0][from]));
  }
  EXPECT_TRUE(at::equal(merged.size, at::tensor({3.f, 3.f, 9.f, 3.f}).view({1, 4})));
}

TEST(MergeKernel, DestinationsOutOfRangeGoNowhere) {
  const auto x = at::ones({1, 4, 3});
  const auto destination = at::tensor({0, -1, 9, 0}, at::kInt).view({1, 4});
  const auto merged = merge<float>(x, at::ones({1, 4}), destination, 2);
  EXPECT_TRUE(at::equal(merged.tokens[0][0], at::ones(3)));
  EXPECT_TRUE(merged.tokens[0][1].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(merged.size, at::tensor({2.f, 0.f}).view({1, 2})));
}

template <typename T>
at::Tensor normalize(const at::Tensor& x, const Norm& norm) {
  const int64_t rows = x.size(0), channels = x.size(1);
  auto out = at::full_like(x, -7);
  cuda::with_row_shape(channels, [&]<int kPack, int kSteps>() {
    cuda_on_cpu::launch(cuda::row_blocks(rows), 32 * cuda::kRowWarps, 0, [&] {
      cuda::norm_kernel_impl<T, kPack, kSteps>(
          x.const_data_ptr<T>(), norm.of<T>(), rows, static_cast<int32_t>(channels),
          out.mutable_data_ptr<T>());
    });
  });
  return out;
}

TEST(NormKernel, EqualsATens) {
  at::manual_seed(0);
  for (const int64_t channels : {1, 30, 64, 384, 500, 768, 1000, 1001, 1408}) {
    for (const bool rms : {false, true}) {
      const auto norm = norm_of(channels, at::kFloat, rms);
      const auto x = at::randn({19, channels}) * 3 + 5;
      EXPECT_TRUE(at::allclose(normalize<float>(x, norm), norm(x), 1e-5, 2e-6));
    }
  }
}

// The variance is that of the differences from the mean, so a mean far from zero costs no accuracy.
TEST(NormKernel, LargeMeansCancel) {
  at::manual_seed(0);
  const auto x = at::randn({4, 128}) + 3000;
  const Norm norm{at::ones(128), at::zeros(128)};
  const auto exact = at::layer_norm(x.to(at::kDouble), 128, {}, {}, 1e-5);
  EXPECT_TRUE(at::allclose(normalize<float>(x, norm).to(at::kDouble), exact, 1e-3, 1e-3));
}

// When the squares overflow, a layer norm gives NaN and an RMS norm gives zeros, as torch's do.
TEST(NormKernel, IsNotFiniteWhereTheVarianceOverflows) {
  auto x = at::randn({3, 128});
  x[1] *= 1e25;
  for (const bool rms : {false, true}) {
    const auto norm = norm_of(128, at::kFloat, rms);
    const auto found = normalize<float>(x, norm);
    EXPECT_TRUE(at::allclose(found[0], norm(x)[0], 1e-5, 2e-6));
    EXPECT_TRUE(at::allclose(found[2], norm(x)[2], 1e-5, 2e-6));
    EXPECT_TRUE((rms ? found[1] == 0 : found[1].isnan()).all().item<bool>());
  }
}

TEST(NormKernel, HalfPrecisionRoundsOnce) {
  at::manual_seed(0);
  const auto x = at::randn({7, 192});
  const auto norm = norm_of(192, at::kHalf, false);
  const auto found = normalize<at::Half>(x.to(at::kHalf), norm).to(at::kFloat);
  const Norm exact{norm.weight.to(at::kFloat), norm.bias.to(at::kFloat)};
  EXPECT_TRUE(at::allclose(found, exact(x.to(at::kHalf).to(at::kFloat)), 1.0 / 2048, 1e-6));
}

TEST(UnmergeKernel, EqualsTheCpus) {
  const auto x = at::randn({2, 7, 5});
  const auto source = at::randint(0, 7, {2, 11}, at::kInt);
  auto result = at::empty({2, 11, 5});
  const int64_t count = result.numel();
  cuda_on_cpu::launch((count + 63) / 64, 64, 0, [&] {
    cuda::unmerge_kernel_impl<float>(
        x.const_data_ptr<float>(), source.const_data_ptr<int32_t>(), 7, 11, 5, count,
        result.mutable_data_ptr<float>());
  });
  EXPECT_TRUE(at::equal(result, dsm_ext::unmerge(x, source)));
}

}  // namespace
