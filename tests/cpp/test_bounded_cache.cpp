#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "bounded_cache.h"

namespace {

using dsm_ext::BoundedCache;

auto is(int wanted) {
  return [wanted](int entry) { return entry == wanted; };
}

std::vector<int> entries(const BoundedCache<int>& cache) { return {cache.begin(), cache.end()}; }

TEST(BoundedCache, DropsTheEntryNotUsedForLongest) {
  BoundedCache<int> cache(3);
  for (const int entry : {1, 2, 3}) {
    EXPECT_EQ(cache.put(entry), entry);
  }
  ASSERT_NE(cache.find(is(1)), nullptr);
  cache.put(4);
  EXPECT_EQ(entries(cache), (std::vector<int>{4, 1, 3}));
  EXPECT_EQ(cache.find(is(2)), nullptr);
}

TEST(BoundedCache, KeepsAnEntrysAddress) {
  BoundedCache<int> cache(2);
  int* const first = &cache.put(1);
  cache.put(2);
  EXPECT_EQ(cache.find(is(1)), first);
  cache.put(3);
  EXPECT_EQ(cache.find(is(1)), first);
}

TEST(BoundedCache, TakesAnEntryOut) {
  BoundedCache<std::unique_ptr<int>> cache(2);
  cache.put(std::make_unique<int>(7));
  const auto is_seven = [](const auto& entry) { return *entry == 7; };
  const auto taken = cache.take(is_seven);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(**taken, 7);
  EXPECT_TRUE(cache.empty());
  EXPECT_FALSE(cache.take(is_seven).has_value());
}

TEST(BoundedCache, ForgetsAllWhenCleared) {
  BoundedCache<int> cache(2);
  cache.put(1);
  cache.put(2);
  EXPECT_EQ(cache.size(), 2);
  cache.clear();
  EXPECT_TRUE(cache.empty());
  EXPECT_EQ(cache.find(is(1)), nullptr);
}

}  // namespace
