// The text of the CUDA kernel of matching, run on the CPU, against the CPU's own operator.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "dsm_ext/ops.h"
#include "match_launches.h"

namespace cuda = dsm_ext::cuda;

namespace {

using Windows = std::vector<int64_t>;

// Where the rows of a group lie: in shared memory, or in the device's memory.
enum class Rows { shared, spilled };

/// \param keys  [B, H, N, D], whose channels lie side by side.
template <typename T>
at::Tensor match(
    const at::Tensor& keys, int64_t r, int64_t prefix, const Windows& windows = {},
    const at::Tensor& order = {}, Rows where = Rows::shared, bool packed = true,
    const at::Tensor& penalty = {}) {
  const int64_t images = keys.size(0), tokens = keys.size(2), dim = keys.size(3);
  const cuda::Keys<T> strided{
      .data = keys.const_data_ptr<T>(),
      .image = keys.stride(0),
      .head = keys.stride(1),
      .token = keys.stride(2),
      .heads = static_cast<int32_t>(keys.size(1)),
      .channels = static_cast<int32_t>(dim),
      .packed = packed && dim % cuda::kChannels == 0};
  auto destination = at::full({images, tokens}, -7, at::kInt);
  for (const auto& groups : cuda::match_launches(tokens, r, prefix, windows)) {
    const int64_t largest = cuda::largest_group(groups), blocks = images * groups.count;
    const int64_t row_bytes = cuda::match_row_bytes(largest, dim);
    const bool spilled = where == Rows::spilled;
    auto spill = at::empty({spilled ? blocks * row_bytes / 4 : 0});
    const auto kernel =
        largest <= 64 ? &cuda::match_kernel_impl<T, 2> : &cuda::match_kernel_impl<T, 4>;
    const auto shared = cuda::match_shared_bytes(largest) + (spilled ? 0 : row_bytes);
    const unsigned threads = largest <= 64 ? cuda::kMatchThreads<2> : cuda::kMatchThreads<4>;
    cuda_on_cpu::launch(blocks, threads, shared, [&] {
      kernel(
          strided, order.defined() ? order.const_data_ptr<int32_t>() : nullptr,
          penalty.defined() ? penalty.const_data_ptr<float>() : nullptr, groups, tokens, prefix,
          windows.empty(), spilled ? spill.mutable_data_ptr<float>() : nullptr, row_bytes / 4,
          destination.mutable_data_ptr<int32_t>());
    });
  }
  return destination;
}

// Checks that the kernel and the CPU's operator give the same destinations.
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
      check_match(at::randn({2, 129 + prefix, 40}), 45, prefix, windows, {}, where);
      check_match(at::randn({2, 129 + prefix, 40}), 20, prefix, windows, order, where);
    }
  }
}

TEST(MatchKernel, ManyWindowsTakeSeveralLaunches) {
  const Windows windows(cuda::Groups::kHeld + 3, 4);
  check_match(at::randn({2, 4 * (cuda::Groups::kHeld + 3) + 2, 5}), windows.size(), 2, windows);
}

TEST(MatchKernel, PenaltiesRankThePairs) {
  at::manual_seed(0);
  const auto metric = at::randn({2, 70, 20});
  auto penalty = at::rand({2, 70});
  penalty.select(1, 4).fill_(std::numeric_limits<float>::quiet_NaN());
  penalty.select(1, 11).fill_(std::numeric_limits<float>::infinity());
  const auto order = at::randperm(69).to(at::kInt);
  for (const auto& windows : {Windows{}, Windows{40, 29}}) {
    const auto places = windows.empty() ? at::Tensor() : order;
    const auto expected = dsm_ext::match(
        metric, 20, 1, windows, windows.empty() ? std::nullopt : std::optional(order), penalty);
    const auto found = match<float>(
        metric.unsqueeze(1), 20, 1, windows, places, Rows::shared, /*packed=*/true, penalty);
    EXPECT_TRUE(at::equal(found, expected)) << found << expected;
  }
}

TEST(MatchKernel, KeysMayLieAtAnyAddress) {
  at::manual_seed(0);
  const auto keys = at::randn({2, 3, 90, 40});
  EXPECT_TRUE(
      at::equal(
          match<float>(keys, 30, 1, {}, {}, Rows::shared, /*packed=*/false),
          match<float>(keys, 30, 1, {}, {}, Rows::shared, /*packed=*/true)));
}

TEST(MatchKernel, RowsMayLieInTheDevicesMemory) {
  at::manual_seed(0);
  check_match(at::randn({2, 140, 64}), 60, 1, {}, {}, Rows::spilled);
}

// The metric is the mean of the keys over the heads. The keys lie between queries and values in one
// tensor.
TEST(MatchKernel, HeadsAreAveraged) {
  at::manual_seed(0);
  for (const int64_t dim : {24, 33}) {
    const auto qkv = at::randn({2, 50, 3, 5, dim});
    const auto keys = qkv.select(2, 1).transpose(1, 2);  // [B, H, N, D]
    const auto expected = dsm_ext::match(keys.mean({1}), 20, 1);
    EXPECT_TRUE(at::equal(match<float>(keys, 20, 1), expected));
    const auto low = keys.to(at::kBFloat16);  // has the same strides
    EXPECT_TRUE(
        at::equal(
            match<at::BFloat16>(low, 20, 1),
            dsm_ext::match(low.mean({1}, false, at::kFloat), 20, 1)));
  }
}

TEST(MatchKernel, TiesGoToTheLowerIndex) {
  check_match(at::ones({1, 150, 8}), 40, 1);
  const auto few = at::eye(3).repeat({50, 1}).unsqueeze(0).contiguous();  // three kinds of rows
  check_match(few, 60, 0);
  check_match(-few, 60, 1);
}

TEST(MatchKernel, RowsWithoutADirectionAreMatchedLast) {
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

TEST(MatchKernel, LowPrecisionIsComparedInFloat32) {
  at::manual_seed(0);
  const auto metric = at::randn({2, 1, 60, 48});
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const auto low = metric.to(dtype);
    const auto found =
        dtype == at::kHalf ? match<at::Half>(low, 20, 1) : match<at::BFloat16>(low, 20, 1);
    EXPECT_TRUE(at::equal(found, dsm_ext::match(low.select(1, 0).to(at::kFloat), 20, 1)));
  }
}

TEST(MatchKernel, ProposalsOrderBySimilarityThenIndex) {
  const std::vector<float> similarities = {
      -std::numeric_limits<float>::infinity(), -1, -1e-40f, 0, 1e-40f, 0.5f, 1};
  for (size_t i = 0; i < similarities.size(); ++i) {
    const auto proposal = cuda::proposal(similarities[i], 5);
    EXPECT_EQ(cuda::similarity_of(proposal), similarities[i]);
    EXPECT_EQ(cuda::partner_of(proposal), 5);
    EXPECT_GT(cuda::proposal(similarities[i], 4), proposal);
    if (i > 0) {
      EXPECT_GT(proposal, cuda::proposal(similarities[i - 1], 0));
    }
  }
  EXPECT_EQ(cuda::proposal(-0.0f, 3), cuda::proposal(0.0f, 3));
}

}  // namespace
