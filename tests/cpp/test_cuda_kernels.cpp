// The CUDA kernels' text, run on the CPU, against the CPU's own operators.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "dsm_ext/ops.h"
#include "match_groups.h"
#include "merge_kernel.cuh"
#include "unmerge_kernel.cuh"

namespace cuda = dsm_ext::cuda;

namespace {

using Windows = std::vector<int64_t>;

template <typename T>
at::Tensor match(
    const at::Tensor& metric, int64_t r, int64_t prefix, const Windows& windows,
    const at::Tensor& order, bool far) {
  const int64_t images = metric.size(0), tokens = metric.size(1), dim = metric.size(2);
  const auto shapes = cuda::match_groups(tokens, r, prefix, windows);
  cuda::Groups groups{};
  groups.count = static_cast<int32_t>(shapes.size());
  if (far) {
    groups.more = shapes.data();
  } else {
    std::copy(shapes.begin(), shapes.end(), groups.held);
  }
  int64_t shared = 0;
  for (const auto& group : shapes) {
    shared = std::max(shared, cuda::match_shared_bytes(group.tokens));
  }
  auto destination = at::full({images, tokens}, -7, at::kInt);
  cuda_on_cpu::launch(images * groups.count, cuda::kMatchThreads, shared, [&] {
    cuda::match_kernel_impl<T>(
        metric.const_data_ptr<T>(), order.defined() ? order.const_data_ptr<int32_t>() : nullptr,
        groups, tokens, dim, prefix, windows.empty(), destination.mutable_data_ptr<int32_t>());
  });
  return destination;
}

// Every destination is that of the CPU's operator.
void check_match(
    const at::Tensor& metric, int64_t r, int64_t prefix, const Windows& windows = {},
    const at::Tensor& order = {}, bool far = false) {
  const auto expected = dsm_ext::match(
      metric, r, prefix, windows, order.defined() ? std::optional(order) : std::nullopt);
  const auto found = match<float>(metric, r, prefix, windows, order, far);
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
    for (const bool far : {false, true}) {
      const Windows windows = {25, 1, 24, 0, 49, 30};
      const auto order = at::randperm(129).to(at::kInt);
      check_match(at::randn({2, 129 + prefix, 40}), 12, prefix, windows, {}, far);
      check_match(at::randn({2, 129 + prefix, 40}), 8, prefix, windows, order, far);
    }
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
  const auto metric = at::randn({2, 60, 48});
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const auto low = metric.to(dtype);
    const auto found = dtype == at::kHalf ? match<at::Half>(low, 20, 1, {}, {}, false)
                                          : match<at::BFloat16>(low, 20, 1, {}, {}, false);
    EXPECT_TRUE(at::equal(found, dsm_ext::match(low.to(at::kFloat), 20, 1)));
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

template <typename T>
std::tuple<at::Tensor, at::Tensor> merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t rows,
    int32_t slices) {
  const int64_t images = x.size(0), tokens = x.size(1), channels = x.size(2);
  auto merged = at::full({images, rows, channels}, -7, x.options());
  auto merged_size = at::full({images, rows}, -7, at::kFloat);
  const auto shared = cuda::merge_shared_bytes(tokens, (rows + slices - 1) / slices);
  cuda_on_cpu::launch(images * slices, cuda::kMergeThreads, shared, [&] {
    cuda::merge_kernel_impl<T>(
        x.const_data_ptr<T>(), size.const_data_ptr<float>(), destination.const_data_ptr<int32_t>(),
        static_cast<int32_t>(tokens), static_cast<int32_t>(rows), channels, slices,
        merged.mutable_data_ptr<T>(), merged_size.mutable_data_ptr<float>());
  });
  return {merged, merged_size};
}

TEST(MergeKernel, EqualsTheCpus) {
  at::manual_seed(0);
  for (const int64_t tokens : {3, 50, 197}) {
    const int64_t r = tokens / 3;
    const auto x = at::randn({2, tokens, 37});
    const auto size = at::randint(1, 9, {2, tokens}).to(at::kFloat);
    const auto destination = dsm_ext::match(x, r, 1);
    const auto [expected, expected_size] = dsm_ext::merge(x, size, destination, tokens - r);
    for (const int32_t slices : {1, 3, 8}) {
      const auto [merged, sizes] = merge<float>(x, size, destination, tokens - r, slices);
      EXPECT_TRUE(at::allclose(merged, expected, 1e-6, 1e-6));
      EXPECT_TRUE(at::equal(sizes, expected_size));
    }
  }
}

// What did not merge keeps its bits; sums are in the order of positions.
TEST(MergeKernel, RowsAloneKeepTheirBits) {
  const auto x = at::randn({1, 6, 5}).to(at::kBFloat16);
  const auto destination = at::tensor({2, 0, 2, 1, 2, 3}, at::kInt).view({1, 6});
  const auto [merged, sizes] = merge<at::BFloat16>(x, at::full({1, 6}, 3.f), destination, 4, 2);
  for (const auto& [from, to] : std::vector<std::pair<int, int>>{{1, 0}, {3, 1}, {5, 3}}) {
    EXPECT_TRUE(at::equal(merged[0][to], x[0][from]));
  }
  EXPECT_TRUE(at::equal(sizes, at::tensor({3.f, 3.f, 9.f, 3.f}).view({1, 4})));
}

TEST(MergeKernel, DestinationsOutOfRangeGoNowhere) {
  const auto x = at::ones({1, 4, 3});
  const auto destination = at::tensor({0, -1, 9, 0}, at::kInt).view({1, 4});
  const auto [merged, sizes] = merge<float>(x, at::ones({1, 4}), destination, 2, 1);
  EXPECT_TRUE(at::equal(merged[0][0], at::ones(3)));
  EXPECT_TRUE(merged[0][1].isnan().all().item<bool>());
  EXPECT_TRUE(at::equal(sizes, at::tensor({2.f, 0.f}).view({1, 2})));
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
