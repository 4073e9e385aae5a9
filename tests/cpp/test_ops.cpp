#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "dsm_ext/merge_rule.h"
#include "dsm_ext/ops.h"
#include "ops/groups.h"

namespace {

// The metric of token i is the unit vector along axis[i], so similarities are exactly 0 or 1.
at::Tensor axes(std::initializer_list<int64_t> axis) {
  return at::one_hot(at::tensor(std::vector<int64_t>(axis)), 8).to(at::kFloat).unsqueeze(0);
}

std::vector<int32_t> values(const at::Tensor& map) {
  const auto flat = map.flatten().contiguous();
  return {flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel()};
}

TEST(Match, GlobalStepCountsThePrefix) {
  // Token 0 is the class token; tokens 1 to 5 are of B, A, B, A, B. Token 2 equals token 5.
  const auto map = dsm_ext::match(axes({0, 1, 2, 3, 4, 2}), 1, /*prefix=*/1);
  // The merged sequence: the prefix, token 4 of A, tokens 1, 3, 5 of B. Token 2 merges into 5.
  EXPECT_EQ(values(map), (std::vector<int32_t>{0, 2, 4, 3, 1, 4}));
}

TEST(Match, WindowsMatchApart) {
  // The windows are tokens 0 to 3 and 4 to 7. Token 0 equals token 5 of the other window.
  const auto map = dsm_ext::match(axes({5, 1, 2, 2, 3, 5, 4, 4}), 2, 0, {4, 4});
  // Token 2 merges into 3, and token 6 into 7.
  EXPECT_EQ(values(map), (std::vector<int32_t>{0, 1, 2, 2, 3, 4, 5, 5}));
}

TEST(Match, OrderSaysWhatIsInAWindow) {
  const auto order = at::tensor({3, 2, 1, 0}, at::kInt);
  // In the window-major order 3, 2, 1, 0, A has tokens 3 and 1, and B has 2 and 0. Token 1 equals
  // token 0.
  const auto map = dsm_ext::match(axes({7, 7, 2, 3}), 1, 0, {4}, order);
  EXPECT_EQ(values(map), (std::vector<int32_t>{2, 2, 1, 0}));
}

TEST(Match, TiesGoToTheLowerIndex) {
  const auto map = dsm_ext::match(axes({1, 1, 1, 1, 1, 1}), 2);
  // A has tokens 0, 2, 4. Tokens 0 and 2 merge, both into the first token of B.
  EXPECT_EQ(values(map), (std::vector<int32_t>{1, 1, 1, 2, 0, 3}));
}

TEST(Match, RefusesWhatDoesNotFit) {
  EXPECT_THROW(dsm_ext::match(at::zeros({4, 4}), 1), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), 3), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), -1), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), 1, 0, {3, 3}), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}, at::kDouble), 1), c10::TypeError);
}

TEST(MergeRule, NamesAndValuesCorrespond) {
  const dsm_ext::MergeRule rule;
  EXPECT_EQ(dsm_ext::name_of(rule.metric), "keys");
  EXPECT_EQ(rule.protect, 0);
  EXPECT_EQ(dsm_ext::parse_merge_metric("keys"), rule.metric);
  EXPECT_EQ(dsm_ext::parse_merge_metric("keys+tokens"), dsm_ext::MergeMetric::keys_and_tokens);
  EXPECT_THROW(dsm_ext::parse_merge_metric(""), c10::ValueError);
}

TEST(Groups, LieOneAfterTheOther) {
  const std::vector<int64_t> windows = {6, 0, 1, 4};
  const auto groups = dsm_ext::groups_of_step(/*tokens=*/13, /*r=*/5, /*prefix=*/2, windows);
  const std::vector<int32_t> removed = {3, 0, 0, 2};
  ASSERT_EQ(groups.size(), windows.size());
  int32_t begin = 0, base = 2;
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i].begin, begin);
    EXPECT_EQ(groups[i].tokens, windows[i]);
    EXPECT_EQ(groups[i].r, removed[i]);
    EXPECT_EQ(groups[i].base, base);
    begin += groups[i].tokens;
    base += groups[i].tokens - groups[i].r;
  }
}

// Two tokens for each of the first windows, one for the others; what a window cannot give, the next
// ones give.
TEST(Groups, ShareOutWhatAStepRemoves) {
  using Counts = std::vector<int64_t>;
  const auto removed = [](int64_t r, const Counts& windows) {
    return dsm_ext::removed_from_windows(r, windows);
  };
  EXPECT_EQ(removed(13, {49, 49, 49, 49}), (Counts{4, 3, 3, 3}));
  EXPECT_EQ(removed(6, {9, 1, 0, 7, 3}), (Counts{2, 0, 0, 3, 1}));
  EXPECT_EQ(removed(4, {20, 20, 0}), (Counts{3, 1, 0}));  // the last window's goes to the first
  for (int64_t r = 0; r <= dsm_ext::most_removed(Counts{9, 1, 0, 7, 3}); ++r) {
    const auto each = removed(r, {9, 1, 0, 7, 3});
    EXPECT_EQ(std::accumulate(each.begin(), each.end(), int64_t{0}), r);
  }
}

TEST(Groups, AWholeSequenceIsOneGroup) {
  const auto groups = dsm_ext::groups_of_step(12, 3, 2, {});
  ASSERT_EQ(groups.size(), 1);
  EXPECT_EQ(groups[0].begin, 0);
  EXPECT_EQ(groups[0].tokens, 10);
  EXPECT_EQ(groups[0].r, 3);
  EXPECT_EQ(groups[0].base, 2);
}

TEST(Merge, MeansAreWeightedBySize) {
  const auto x = at::tensor({1.f, 2.f, 4.f, 8.f}).view({1, 4, 1});
  const auto size = at::tensor({1.f, 3.f, 1.f, 1.f}).view({1, 4});
  const auto map = at::tensor({0, 1, 0, 1}, at::kInt).view({1, 4});
  const auto [merged, sizes] = dsm_ext::merge(x, size, map, 2);
  EXPECT_TRUE(at::allclose(merged.flatten(), at::tensor({2.5f, 3.5f})));
  EXPECT_TRUE(at::equal(sizes.flatten(), at::tensor({2.f, 4.f})));
  EXPECT_TRUE(
      at::equal(
          dsm_ext::unmerge(merged, map).flatten(),
          merged.flatten().index_select(0, map.flatten())));
}

TEST(Merge, SumsOfManyTasksAreTheSameEveryTime) {
  const auto x = at::randn({16, 197, 384});
  const auto size = at::ones({16, 197});
  const auto map = dsm_ext::match(x, 60, 1);
  const auto first = std::get<0>(dsm_ext::merge(x, size, map, 137));
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(at::equal(std::get<0>(dsm_ext::merge(x, size, map, 137)), first));
  }
}

TEST(Merge, RefusesAMapOutOfRange) {
  const auto x = at::zeros({2, 3, 4});
  const auto map = at::full({2, 3}, 3, at::kInt);
  EXPECT_THROW(dsm_ext::merge(x, at::ones({2, 3}), map, 3), c10::ValueError);
  EXPECT_THROW(dsm_ext::merge(x, at::ones({2, 3}), map - 4, 3), c10::ValueError);
  EXPECT_THROW(dsm_ext::unmerge(x, map), c10::ValueError);
  EXPECT_THROW(dsm_ext::unmerge(x, map - 4), c10::ValueError);
}

}  // namespace
