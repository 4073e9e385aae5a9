#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "dsm_ext/ops.h"

namespace {

// Row i of 4 tokens looks along axis[i]: similarities are exactly 0 or 1.
at::Tensor axes(std::initializer_list<int64_t> axis) {
  return at::one_hot(at::tensor(std::vector<int64_t>(axis)), 8).to(at::kFloat).unsqueeze(0);
}

std::vector<int32_t> values(const at::Tensor& map) {
  const auto flat = map.flatten().contiguous();
  return {flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel()};
}

TEST(Match, GlobalStepCountsThePrefix) {
  // Class token, then B A B A B: token 2 is like token 5, token 4 like none.
  const auto map = dsm_ext::match(axes({0, 1, 2, 3, 4, 2}), 1, /*prefix=*/1);
  // Prefix, unmerged A (4), B (1, 3, 5); 2 goes to 5.
  EXPECT_EQ(values(map), (std::vector<int32_t>{0, 2, 4, 3, 1, 4}));
}

TEST(Match, WindowsMatchApart) {
  // Tokens 0 to 3 and 4 to 7; token 0 has its twin in the other window.
  const auto map = dsm_ext::match(axes({5, 1, 2, 2, 3, 5, 4, 4}), 1, 0, {4, 4});
  // First: A rest (0), B (1, 3), 2 into 3. Second: A rest (4), B (5, 7), 6 into 7.
  EXPECT_EQ(values(map), (std::vector<int32_t>{0, 1, 2, 2, 3, 4, 5, 5}));
}

TEST(Match, OrderSaysWhatIsInAWindow) {
  const auto order = at::tensor({3, 2, 1, 0}, at::kInt);
  // Window-major order 3 2 1 0: A is 3 and 1, B is 2 and 0; 1 is like 0.
  const auto map = dsm_ext::match(axes({7, 7, 2, 3}), 1, 0, {4}, order);
  EXPECT_EQ(values(map), (std::vector<int32_t>{2, 2, 1, 0}));
}

TEST(Match, TiesGoToTheLowerIndex) {
  const auto map = dsm_ext::match(axes({1, 1, 1, 1, 1, 1}), 2);
  // A is 0, 2, 4; 0 and 2 merge, both into B's first.
  EXPECT_EQ(values(map), (std::vector<int32_t>{1, 1, 1, 2, 0, 3}));
}

TEST(Match, RefusesWhatDoesNotFit) {
  EXPECT_THROW(dsm_ext::match(at::zeros({4, 4}), 1), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), 3), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), -1), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}), 1, 0, {3, 3}), c10::ValueError);
  EXPECT_THROW(dsm_ext::match(at::zeros({1, 4, 4}, at::kDouble), 1), c10::TypeError);
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
