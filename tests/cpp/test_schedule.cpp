#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <numeric>

#include "dsm_ext/schedule.h"

using dsm_ext::Config;
using dsm_ext::Schedule;
using dsm_ext::Step;

namespace {

TEST(Schedule, BuildersAndStringsGiveTheSameList) {
  EXPECT_EQ(Schedule::dsm(12), Schedule::parse("dsm:r=16,skip=1,local=6,window=7", 12));
  EXPECT_EQ(Schedule::dfe(12, 16, 0), Schedule::tome(12, 16));
  EXPECT_EQ(Schedule::dense(2), Schedule({{}, {Step::global(0)}}));
  EXPECT_EQ(
      Schedule::tome(3, std::vector<int64_t>{8, 4}),
      Schedule({{Step::global(8)}, {Step::global(4)}, {}}));
  EXPECT_FALSE(Schedule::parse("tome:proportional=false", 3) == Schedule::parse("tome", 3));
}

TEST(Schedule, GuidedMeetsTheSaving) {
  const Config config;
  const auto schedule = Schedule::parse("guided:1.7", config);
  EXPECT_EQ(schedule, Schedule::guided(config, 1.7));
  EXPECT_EQ(schedule.rule().metric, dsm_ext::MergeMetric::keys_and_tokens);
  const auto plan = schedule.plan(config);
  const auto dense = static_cast<double>(plan.multiply_adds_dense);
  EXPECT_NEAR(dense / static_cast<double>(plan.multiply_adds()), 1.7, 0.017);
  EXPECT_EQ(schedule, Schedule::parse(schedule.text(), config.depth));
  EXPECT_THROW(Schedule::guided(config, 9), c10::ValueError);
  EXPECT_THROW(Schedule::parse("guided:1.7", 12), c10::ValueError);
}

TEST(Schedule, RefusesWhatMakesNoSense) {
  EXPECT_THROW(Schedule({{Step::global(8)}, {Step::local(8, 7)}}), c10::ValueError);
  EXPECT_THROW(Schedule({{Step::local(8, 7)}, {Step::local(8, 5)}}), c10::ValueError);
  EXPECT_THROW(Schedule({{Step::global(-1)}}), c10::ValueError);
  EXPECT_THROW(Schedule::parse("dsm:q=1", 12), c10::ValueError);
  EXPECT_THROW(Schedule::dense(11).plan(Config{}), c10::ValueError);
  EXPECT_THROW(Schedule::tome(12, 99).plan(Config{}), c10::ValueError);
}

TEST(Plan, CountsTokensAndMultiplyAdds) {
  const auto plan = Schedule::dsm(12).plan(Config{});
  EXPECT_EQ(plan.tokens_dense, 197);
  EXPECT_EQ(plan.tokens_out(), 21);
  EXPECT_EQ(plan.blocks[0].kind(), "dense");
  EXPECT_EQ(plan.blocks[1].kind(), "local");
  EXPECT_EQ(plan.blocks[11].kind(), "global");
  EXPECT_NEAR(static_cast<double>(plan.multiply_adds_dense), 17.56e9, 0.01e9);
  EXPECT_NEAR(static_cast<double>(plan.multiply_adds()), 10.13e9, 0.02e9);
  EXPECT_LT(plan.multiply_adds_logits(), plan.multiply_adds());
}

TEST(Plan, WindowsOfOnePatchGiveNothing) {
  const auto plan = Schedule::parse("dsm:window=1", 12).plan(Config{});
  EXPECT_EQ(plan.blocks[1].kind(), "dense");
  EXPECT_EQ(plan.tokens_out(), 197 - 5 * 16);
  EXPECT_TRUE(plan.window_order.empty());
}

// For every size of grid and window: each patch is in exactly one window, and no window is larger
// than the schedule's.
TEST(Plan, WindowsCoverAnyGrid) {
  for (int64_t height = 1; height <= 17; ++height) {
    for (int64_t width = 1; width <= 17; width += 3) {
      for (int64_t window = 2; window <= 8; ++window) {
        Config config;
        config.img_size = {height * 16, width * 16};
        config.depth = 1;
        if (height * width < 2) {
          continue;
        }
        const auto plan = Schedule({{Step::local(1, window)}}).plan(config);
        auto order = plan.window_order;
        std::sort(order.begin(), order.end());
        std::vector<int32_t> all(height * width);
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(order, all);
        for (const auto& step : plan.blocks[0].steps) {
          const auto tokens = std::accumulate(step.windows.begin(), step.windows.end(), int64_t{0});
          EXPECT_EQ(tokens, height * width);
          EXPECT_LE(*std::max_element(step.windows.begin(), step.windows.end()), window * window);
        }
      }
    }
  }
}

}  // namespace
