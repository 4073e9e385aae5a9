#include "cpu/attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "cpu/kernels/softmax_avx512.h"
#include "dsm_ext/precision.h"

// Attention of the CPU's fast path, compared with a softmax in float64.

namespace dsm_ext::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr auto kNaN = std::numeric_limits<float>::quiet_NaN();

bool can_run(Element element) {
  return element == Element::float32 || has_precision(Precision::bfloat16);
}

// qkv: [images, tokens, 3, heads, dim]. size: [images, tokens], or undefined.
// Gives the attention of the first `queries` tokens of each image: [images, queries, heads, dim].
at::Tensor run(
    const at::Tensor& qkv, const at::Tensor& size, int64_t queries, int64_t threads = 1,
    int64_t summed = kSummedInAttention) {
  const int64_t images = qkv.size(0), tokens = qkv.size(1), heads = qkv.size(3), dim = qkv.size(4);
  const auto element = qkv.scalar_type() == at::kFloat ? Element::float32 : Element::bfloat16;
  const auto& kernel = attention_kernel(element);
  const int64_t c = heads * dim, padded = padded_tokens(tokens);
  auto out = qkv.select(2, 0).narrow(1, 0, queries).clone(at::MemoryFormat::Contiguous);
  const auto bias = at::empty({images, padded}, at::kFloat);
  for (int64_t image = 0; image < images; ++image) {
    fill_bias(
        bias.data_ptr<float>() + image * padded,
        size.defined() ? size.data_ptr<float>() + image * tokens : nullptr, tokens);
  }
  const auto memory =
      at::empty({attention_memory(kernel, images, heads, tokens, dim, threads)}, at::kByte);
  const Rows in(static_cast<std::byte*>(qkv.data_ptr()), 3 * c, element);
  const Attention attention{
      .queries = {static_cast<std::byte*>(out.data_ptr()), c, element},
      .query_count = queries,
      .keys = in.at(0, c),
      .values = in.at(0, 2 * c),
      .key_rows = tokens,
      .token_count = tokens,
      .bias = bias.data_ptr<float>(),
      .images = images,
      .heads = heads,
      .dim = dim,
      .summed = summed};
  attend(
      kernel, attention, threads, static_cast<std::byte*>(memory.data_ptr()), nullptr, 0,
      [](int64_t, int64_t) {});
  return out;
}

at::Tensor expected(const at::Tensor& qkv, const at::Tensor& size, int64_t queries) {
  const auto parts = qkv.to(at::kDouble).permute({2, 0, 3, 1, 4}).unbind();  // [B, H, N, D] each
  const auto q = parts[0].narrow(2, 0, queries);
  auto scores = q.matmul(parts[1].transpose(2, 3)) / std::sqrt(static_cast<double>(qkv.size(4)));
  if (size.defined()) {
    scores = scores + size.to(at::kDouble).log().unsqueeze(1).unsqueeze(1);
  }
  return scores.softmax(-1).matmul(parts[2]).transpose(1, 2);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b).abs().max().item<double>();
}

at::Tensor random(int64_t images, int64_t tokens, int64_t heads, int64_t dim, Element element) {
  at::manual_seed(tokens + dim);
  return at::randn({images, tokens, 3, heads, dim})
      .to(element == Element::float32 ? at::kFloat : at::kBFloat16);
}

// The values are below 5. In bfloat16 a weight has an error of up to 2^-8, and so has the output.
double tolerance(Element element) { return element == Element::float32 ? 5e-6 : 1.5e-2; }

class Lengths : public testing::TestWithParam<std::tuple<Element, int64_t>> {};

TEST_P(Lengths, MatchFloat64) {
  const auto [element, tokens] = GetParam();
  if (!can_run(element)) {
    GTEST_SKIP() << "the processor lacks bfloat16";
  }
  const auto qkv = random(1, tokens, 2, 16, element);
  const auto size = at::randint(1, 9, {1, tokens}).to(at::kFloat);
  for (const auto& sizes : {at::Tensor(), size}) {
    const auto all = expected(qkv, sizes, tokens);
    EXPECT_LT(difference(run(qkv, sizes, tokens), all), tolerance(element));
    const auto one = run(qkv, sizes, 1, 1, /*summed=*/24);
    EXPECT_LT(difference(one, all.narrow(1, 0, 1)), tolerance(element));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Attention, Lengths,
    testing::Combine(
        testing::Values(Element::float32, Element::bfloat16),
        testing::Values(
            1, 2, 16, 17, 197, 383, 384, 577, kWholeTokens - 1, kWholeTokens, kWholeTokens + 1,
            1920, 1921, 2048, 2601)));

class HeadSizes : public testing::TestWithParam<std::tuple<Element, int64_t>> {};

TEST_P(HeadSizes, MatchFloat64) {
  const auto [element, dim] = GetParam();
  if (!can_run(element)) {
    GTEST_SKIP() << "the processor lacks bfloat16";
  }
  for (const int64_t tokens : {50, 1600}) {
    const auto qkv = random(2, tokens, 3, dim, element);
    EXPECT_LT(difference(run(qkv, {}, tokens), expected(qkv, {}, tokens)), tolerance(element));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Attention, HeadSizes,
    testing::Combine(
        testing::Values(Element::float32, Element::bfloat16),
        testing::Values(8, 9, 31, 32, 64, 72, 80, 127, 128)));

class Elements : public testing::TestWithParam<Element> {
 protected:
  void SetUp() override {
    if (!can_run(GetParam())) {
      GTEST_SKIP() << "the processor lacks bfloat16";
    }
  }
};

TEST_P(Elements, NumberOfThreadsChangesNoBit) {
  const int before = at::get_num_threads();
  for (const int64_t tokens : {197, 1700}) {
    const auto qkv = random(1, tokens, 3, 32, GetParam());
    const auto size = at::randint(1, 9, {1, tokens}).to(at::kFloat);
    at::set_num_threads(1);
    const auto one = run(qkv, size, tokens, 1);
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      EXPECT_TRUE(at::equal(run(qkv, size, tokens, threads), one)) << tokens << ", " << threads;
    }
  }
  at::set_num_threads(before);
}

// The largest score of most rows is in a late block, and earlier results shrink to nothing.
TEST_P(Elements, ScoresAndSizesFarApart) {
  const int64_t tokens = 2000;
  auto qkv = random(1, tokens, 2, 32, GetParam());
  qkv.select(2, 0).mul_(8);
  qkv.select(2, 1).mul_(8);
  auto size = at::ones({1, tokens});
  size.select(1, 1990).fill_(1e9);
  size.select(1, 3).fill_(1e-30);
  const double scores = GetParam() == Element::float32 ? 20 : 1;  // scores up to 2,000 round more
  EXPECT_LT(
      difference(run(qkv, size, tokens), expected(qkv, size, tokens)),
      scores * tolerance(GetParam()));
}

TEST_P(Elements, NotFiniteQueriesSpoilOnlyTheirRows) {
  for (const int64_t tokens : {100, 1700}) {
    for (const float bad : {kNaN, kInfinity, -kInfinity}) {
      auto qkv = random(1, tokens, 1, 16, GetParam());
      qkv[0][70][0][0][5] = bad;
      const auto out = run(qkv, {}, tokens).isnan().flatten(2).all(-1)[0];
      EXPECT_TRUE(out[70].item<bool>());
      EXPECT_EQ(out.sum().item<int64_t>(), 1);
    }
  }
}

TEST_P(Elements, NotFiniteKeysAndValuesSpoilTheirHead) {
  for (const int64_t tokens : {100, 1700}) {
    for (const int64_t part : {1, 2}) {
      auto qkv = random(1, tokens, 2, 16, GetParam());
      qkv[0][tokens - 2][part][1][5] = kNaN;
      const auto out = run(qkv, {}, tokens);
      EXPECT_TRUE(out.select(2, 0).isfinite().all().item<bool>());
      EXPECT_TRUE(out.select(2, 1).select(2, 5).isnan().all().item<bool>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, Elements, testing::Values(Element::float32, Element::bfloat16));

TEST(Attention, MemoryGrowsWithTokensNotWithTheirSquare) {
  for (const auto element : {Element::float32, Element::bfloat16}) {
    const auto bytes = [&](int64_t tokens) {
      return attention_memory(attention_kernel(element), 1, 6, tokens, 64, 2);
    };
    EXPECT_LT(bytes(40000), 2.1 * static_cast<double>(bytes(20000)));
  }
}

// Both codes for bfloat16 weights, from the largest score down to where weights become 0.
TEST(Exponentials, StayBelowTheirErrorBound) {
  constexpr int64_t kColumns = 48;
  const auto check = [](auto* function) {
    for (float begin = -140; begin < 0; begin += 0.37f) {
      float scores[kColumns], bias[kColumns] = {};
      BFloat16 out[kColumns];
      for (int64_t c = 0; c < kColumns; ++c) {
        scores[c] = c == 0 ? 0 : begin * static_cast<float>(c) / kColumns;
      }
      scores[kColumns - 1] = -kInfinity;
      float largest = -kInfinity, sum = 0, rescale = 0;
      function(
          scores, 1, kColumns, 1.f, bias,
          Rows(reinterpret_cast<std::byte*>(out), kColumns, Element::bfloat16),
          {&largest, &sum, &rescale});
      double total = 0;
      for (int64_t c = 0; c < kColumns; ++c) {
        const double exact = std::exp(static_cast<double>(scores[c]));
        total += exact;
        EXPECT_NEAR(static_cast<float>(out[c]), exact, exact * (1.0 / 256 + 6e-6) + 0x1p-125);
      }
      EXPECT_NEAR(sum, total, 6e-6 * total);
      EXPECT_EQ(largest, 0);
      EXPECT_EQ(static_cast<float>(out[kColumns - 1]), 0);
    }
  };
  check(&exponentials_any);
  if (has_avx512()) {
    check(&exponentials_avx512);
  }
}

}  // namespace
}  // namespace dsm_ext::cpu
