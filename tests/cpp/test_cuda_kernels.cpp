// The CUDA kernels' text, run on the CPU, against the CPU's own operators.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "dsm_ext/ops.h"
#include "match_groups.h"
#include "merge_kernel.cuh"
#include "norm_kernel.cuh"
#include "unmerge_kernel.cuh"

namespace cuda = dsm_ext::cuda;

namespace {

using Windows = std::vector<int64_t>;

// Where the rows of a group lie.
enum class Rows { shared, spilled };

/// \param keys  [B, H, N, D], channels side by side.
template <typename T>
at::Tensor match(
    const at::Tensor& keys, int64_t r, int64_t prefix, const Windows& windows = {},
    const at::Tensor& order = {}, Rows where = Rows::shared) {
  const int64_t images = keys.size(0), tokens = keys.size(2), dim = keys.size(3);
  const cuda::Keys<T> strided{
      .data = keys.const_data_ptr<T>(),
      .image = keys.stride(0),
      .head = keys.stride(1),
      .token = keys.stride(2),
      .heads = static_cast<int32_t>(keys.size(1)),
      .channels = static_cast<int32_t>(dim)};
  auto destination = at::full({images, tokens}, -7, at::kInt);
  for (const auto& groups : cuda::match_groups(tokens, r, prefix, windows)) {
    const int64_t largest = cuda::largest_group(groups), blocks = images * groups.count;
    const int64_t row_bytes = cuda::match_row_bytes(largest, dim);
    const bool spilled = where == Rows::spilled;
    auto spill = at::empty({spilled ? blocks * row_bytes / 4 : 0});
    const auto kernel =
        largest <= 64 ? &cuda::match_kernel_impl<T, 2> : &cuda::match_kernel_impl<T, 4>;
    const auto shared = cuda::match_shared_bytes(largest) + (spilled ? 0 : row_bytes);
    cuda_on_cpu::launch(blocks, cuda::kMatchThreads, shared, [&] {
      kernel(
          strided, order.defined() ? order.const_data_ptr<int32_t>() : nullptr, groups, tokens,
          prefix, windows.empty(), spilled ? spill.mutable_data_ptr<float>() : nullptr,
          row_bytes / 4, destination.mutable_data_ptr<int32_t>());
    });
  }
  return destination;
}

// Every destination is that of the CPU's operator.
void check_match(
    const at::Tensor& metric, int64_t r, int64_t prefix, const Windows& windows = {},
    const at::Tensor& order = {}, Rows where = Rows::shared) {
  const auto expected = dsm_ext::match(
      metric, r, prefix, windows, order.defined() ? std::optional(order) : std::nullopt);
  const auto found = match<float>(metric.unsqueeze(1), r, prefix, windows, order, where);
  EXPECT_TRUE(at::equal(found, expected))
      << metric.sizes() << " r " << r << " prefix " << prefix << "\n"
      << found << expected;
}

TEST(MatchKernel, GlobalSteps) {
  at::manual_seed(0);
  for (const int64_t prefix : {0, 1, 2, 5}) {
    for (const int64_t tokens : {2, 3, 17, 64, 131}) {
      for (const int64_t dim : {1, 33, 64}) {
        const int64_t r = (tokens + 1) / 3;
        check_match(at::randn({2, tokens + prefix, dim}), std::min(r, tokens / 2), prefix);
      }
    }
  }
  check_match(at::randn({1, 300, 128}), 140, 1);
}

TEST(MatchKernel, Windows) {
  at::manual_seed(0);
  for (const int64_t prefix : {0, 1, 3}) {
    for (const auto where : {Rows::shared, Rows::spilled}) {
      const Windows windows = {25, 1, 24, 0, 49, 30};
      const auto order = at::randperm(129).to(at::kInt);
      check_match(at::randn({2, 129 + prefix, 40}), 12, prefix, windows, {}, where);
      check_match(at::randn({2, 129 + prefix, 40}), 8, prefix, windows, order, where);
    }
  }
}

TEST(MatchKernel, ManyWindowsTakeSeveralLaunches) {
  const Windows windows(cuda::Groups::kHeld + 3, 4);
  check_match(at::randn({2, 4 * (cuda::Groups::kHeld + 3) + 2, 5}), 1, 2, windows);
}

TEST(MatchKernel, RowsThatDoNotFitLieInMemory) {
  at::manual_seed(0);
  check_match(at::randn({2, 140, 64}), 60, 1, {}, {}, Rows::spilled);
}

// The metric is the mean over the heads of keys that lie among queries and values.
TEST(MatchKernel, HeadsAreAveraged) {
  at::manual_seed(0);
  for (const int64_t dim : {24, 33}) {
    const auto qkv = at::randn({2, 50, 3, 5, dim});
    const auto keys = qkv.select(2, 1).transpose(1, 2);  // [B, H, N, D]
    const auto expected = dsm_ext::match(keys.mean({1}), 20, 1);
    EXPECT_TRUE(at::equal(match<float>(keys, 20, 1), expected));
    const auto low = keys.to(at::kBFloat16);  // keeps the strides
    EXPECT_TRUE(
        at::equal(
            match<at::BFloat16>(low, 20, 1),
            dsm_ext::match(low.mean({1}, false, at::kFloat), 20, 1)));
  }
}

TEST(MatchKernel, TiesGoToTheLowerIndex) {
  check_match(at::ones({1, 150, 8}), 40, 1);
  const auto few = at::eye(3).repeat({50, 1}).unsqueeze(0).contiguous();  // every third is alike
  check_match(few, 60, 0);
  check_match(-few, 60, 1);
}

TEST(MatchKernel, UnusableRowsAreMatchedLast) {
  at::manual_seed(0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  auto metric = at::randn({2, 70, 20});
  metric.select(1, 4).zero_();
  metric.select(1, 9).fill_(nan);
  metric.select(1, 22).fill_(infinity);
  metric.select(1, 40).mul_(1e30);
  metric.select(1, 41).mul_(1e-30);
  for (const int64_t r : {1, 20, 34}) {
    check_match(metric, r, 1);
  }
  check_match(at::zeros({1, 20, 4}), 9, 1);
}

TEST(MatchKernel, LowPrecisionIsReadAsItIs) {
  at::manual_seed(0);
  const auto metric = at::randn({2, 1, 60, 48});
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const auto low = metric.to(dtype);
    const auto found =
        dtype == at::kHalf ? match<at::Half>(low, 20, 1) : match<at::BFloat16>(low, 20, 1);
    EXPECT_TRUE(at::equal(found, dsm_ext::match(low.select(1, 0).to(at::kFloat), 20, 1)));
  }
}

TEST(MatchKernel, KeysOrderAsScoresDo) {
  const std::vector<float> scores = {
      -std::numeric_limits<float>::infinity(), -1, -1e-40f, 0, 1e-40f, 0.5f, 1};
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto key = cuda::match_key(scores[i], 5);
    EXPECT_EQ(cuda::match_score(key), scores[i]);
    EXPECT_EQ(cuda::match_index(key), 5);
    EXPECT_GT(cuda::match_key(scores[i], 4), key);
    if (i > 0) {
      EXPECT_GT(key, cuda::match_key(scores[i - 1], 0));
    }
  }
  EXPECT_EQ(cuda::match_key(-0.0f, 3), cuda::match_key(0.0f, 3));
}

struct Result {
  at::Tensor tokens, size, normed, log_size;
};

// A norm's parameters; undefined: none.
struct Norm {
  at::Tensor weight, bias;
  double eps = 1e-5;
  bool rms = false;

  at::Tensor operator()(const at::Tensor& x) const {
    return rms ? at::rms_norm(x, weight.sizes(), weight, eps)
               : at::layer_norm(x, weight.sizes(), weight, bias, eps);
  }

  template <typename T>
  cuda::NormOf<T> of() const {
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
    int32_t slices, const Norm& norm = {}) {
  const int64_t images = x.size(0), tokens = x.size(1), channels = x.size(2);
  const bool normed = norm.weight.defined();
  const int64_t padded = (rows + 15) / 16 * 16;
  Result result{
      at::full({images, rows, channels}, -7, x.options()), at::full({images, rows}, -7, at::kFloat),
      at::full({images, rows, channels}, -7, x.options()),
      at::full({images, padded}, -7, x.options())};
  const auto shared =
      cuda::merge_shared_bytes(tokens, (rows + slices - 1) / slices, normed ? channels : 0);
  const auto kernel =
      channels % 4 == 0 ? &cuda::merge_kernel_impl<T, 4> : &cuda::merge_kernel_impl<T, 1>;
  cuda_on_cpu::launch(images * slices, cuda::kMergeThreads, shared, [&] {
    kernel(
        {x.const_data_ptr<T>(), size.defined() ? size.const_data_ptr<float>() : nullptr,
         destination.const_data_ptr<int32_t>(), static_cast<int32_t>(tokens),
         static_cast<int32_t>(rows), static_cast<int32_t>(channels)},
        {result.tokens.mutable_data_ptr<T>(), result.size.mutable_data_ptr<float>(),
         normed ? result.normed.mutable_data_ptr<T>() : nullptr,
         normed ? result.log_size.mutable_data_ptr<T>() : nullptr, static_cast<int32_t>(padded)},
        norm.of<T>(), slices);
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
    for (const int32_t slices : {1, 3, 8}) {
      const auto merged = merge<float>(x, size, destination, tokens - r, slices);
      EXPECT_TRUE(at::allclose(merged.tokens, expected, 1e-6, 1e-6));
      EXPECT_TRUE(at::equal(merged.size, expected_size));
    }
  }
}

// Merging with a norm behind it is the one and then the other, sizes or none before it.
TEST(MergeKernel, TheNormFollows) {
  at::manual_seed(0);
  const int64_t tokens = 45, rows = 30;
  for (const int64_t channels : {21, 64, 200}) {
    for (const bool rms : {false, true}) {
      const auto norm = norm_of(channels, at::kFloat, rms);
      const auto x = at::randn({2, tokens, channels});
      const auto destination = dsm_ext::match(x, tokens - rows, 1);
      for (const auto& size : {at::Tensor(), at::randint(1, 9, {2, tokens}).to(at::kFloat)}) {
        const auto [expected, sizes] =
            dsm_ext::merge(x, size.defined() ? size : at::ones({2, tokens}), destination, rows);
        const auto merged = merge<float>(x, size, destination, rows, 3, norm);
        EXPECT_TRUE(at::allclose(merged.tokens, expected, 1e-6, 1e-6));
        EXPECT_TRUE(at::allclose(merged.normed, norm(expected), 1e-5, 1e-5));
        EXPECT_TRUE(at::equal(merged.size, sizes));
        EXPECT_TRUE(at::allclose(merged.log_size.narrow(1, 0, rows), sizes.log()));
        EXPECT_TRUE(at::equal(merged.log_size.narrow(1, rows, 2), at::zeros({2, 2})));
      }
    }
  }
}

// In half precision the norm is that of the tokens as they are stored.
TEST(MergeKernel, TheNormIsOfRoundedTokens) {
  at::manual_seed(0);
  const auto x = at::randn({2, 20, 32}).to(at::kBFloat16);
  const auto norm = norm_of(32, at::kBFloat16, false);
  const auto merged = merge<at::BFloat16>(x, at::Tensor(), dsm_ext::match(x, 7, 1), 13, 1, norm);
  const auto exact =
      Norm{norm.weight.to(at::kFloat), norm.bias.to(at::kFloat)}(merged.tokens.to(at::kFloat));
  EXPECT_TRUE(at::allclose(merged.normed.to(at::kFloat), exact, 1.0 / 256, 1e-6));
}

// What did not merge keeps its bits; sums are in the order of positions.
TEST(MergeKernel, RowsAloneKeepTheirBits) {
  const auto x = at::randn({1, 6, 5}).to(at::kBFloat16);
  const auto destination = at::tensor({2, 0, 2, 1, 2, 3}, at::kInt).view({1, 6});
  const auto merged = merge<at::BFloat16>(x, at::full({1, 6}, 3.f), destination, 4, 2);
  for (const auto& [from, to] : std::vector<std::pair<int, int>>{{1, 0}, {3, 1}, {5, 3}}) {
    EXPECT_TRUE(at::equal(merged.tokens[0][to], x[0][from]));
  }
  EXPECT_TRUE(at::equal(merged.size, at::tensor({3.f, 3.f, 9.f, 3.f}).view({1, 4})));
}

TEST(MergeKernel, DestinationsOutOfRangeGoNowhere) {
  const auto x = at::ones({1, 4, 3});
  const auto destination = at::tensor({0, -1, 9, 0}, at::kInt).view({1, 4});
  const auto merged = merge<float>(x, at::ones({1, 4}), destination, 2, 1);
  EXPECT_TRUE(at::equal(merged.tokens[0][0], at::ones(3)));
  EXPECT_TRUE(merged.tokens[0][1].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(merged.size, at::tensor({2.f, 0.f}).view({1, 2})));
}

template <typename T>
at::Tensor normalize(const at::Tensor& x, const Norm& norm, unsigned warps) {
  const int64_t rows = x.size(0), channels = x.size(1);
  auto out = at::full_like(x, -7);
  const auto kernel =
      channels % 4 == 0 ? &cuda::norm_kernel_impl<T, 4> : &cuda::norm_kernel_impl<T, 1>;
  const auto shared = warps * channels * static_cast<int64_t>(sizeof(float));
  cuda_on_cpu::launch((rows + warps - 1) / warps, 32 * warps, shared, [&] {
    kernel(
        x.const_data_ptr<T>(), norm.of<T>(), rows, static_cast<int32_t>(channels),
        out.mutable_data_ptr<T>());
  });
  return out;
}

TEST(NormKernel, EqualsAtens) {
  at::manual_seed(0);
  for (const int64_t channels : {1, 30, 64, 384, 1000}) {
    for (const bool rms : {false, true}) {
      const auto norm = norm_of(channels, at::kFloat, rms);
      const auto x = at::randn({19, channels}) * 3 + 5;
      for (const unsigned warps : {1, 4}) {
        EXPECT_TRUE(at::allclose(normalize<float>(x, norm, warps), norm(x), 1e-5, 2e-6));
      }
    }
  }
}

// A mean far from zero costs no accuracy: the variance is taken about it.
TEST(NormKernel, LargeMeansCancel) {
  at::manual_seed(0);
  const auto x = at::randn({4, 128}) + 3000;
  const Norm norm{at::ones(128), at::zeros(128)};
  const auto exact = at::layer_norm(x.to(at::kDouble), 128, {}, {}, 1e-5);
  EXPECT_TRUE(at::allclose(normalize<float>(x, norm, 2).to(at::kDouble), exact, 1e-3, 1e-3));
}

// Squares that overflow are not taken for a huge variance, whose reciprocal is 0: the row is NaN.
// By an RMS norm torch gives zeros.
TEST(NormKernel, IsNotFiniteWhereTheVarianceOverflows) {
  auto x = at::randn({3, 128});
  x[1] *= 1e25;
  for (const bool rms : {false, true}) {
    const auto norm = norm_of(128, at::kFloat, rms);
    const auto found = normalize<float>(x, norm, 2);
    EXPECT_TRUE(at::allclose(found[0], norm(x)[0], 1e-5, 2e-6));
    EXPECT_TRUE(at::allclose(found[2], norm(x)[2], 1e-5, 2e-6));
    EXPECT_TRUE((rms ? found[1] == 0 : found[1].isnan()).all().item<bool>());
  }
}

TEST(NormKernel, HalfPrecisionRoundsOnce) {
  at::manual_seed(0);
  const auto x = at::randn({7, 192});
  const auto norm = norm_of(192, at::kHalf, false);
  const auto found = normalize<at::Half>(x.to(at::kHalf), norm, 2).to(at::kFloat);
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
