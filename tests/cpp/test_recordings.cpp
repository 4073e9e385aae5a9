// Tests which calls are recorded, which are replayed, and when recordings end.

#include <gtest/gtest.h>

#include "cuda/recordings.h"

namespace {

using dsm_ext::cuda::Call;
using Weights = std::vector<int64_t>;

// A recording that counts how many of its kind are alive.
struct Recording {
  explicit Recording(int& alive) : alive_(alive) { ++alive_; }
  ~Recording() { --alive_; }

  int& alive_;
};

using Recordings = dsm_ext::cuda::Recordings<Recording>;
using Advice = Recordings::Advice;

Call call(int64_t images, const std::shared_ptr<const void>& plan) {
  return {plan, images, {.logits = true}};
}

class RecordingsTest : public testing::Test {
 protected:
  static std::shared_ptr<const void> make_plan() { return std::make_shared<int>(); }

  void record(const Call& call) {
    recordings.find(call, weights);
    ASSERT_EQ(recordings.find(call, weights).advice, Advice::record);
    recordings.keep(std::make_unique<Recording>(alive));
  }

  Advice advice(const Call& call) { return recordings.find(call, weights).advice; }

  int alive = 0;
  std::shared_ptr<const void> plan = make_plan();
  Weights weights = {1, 2, 3};
  Recordings recordings;
};

TEST_F(RecordingsTest, TheSecondCallIsRecordedTheThirdReplayed) {
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
  EXPECT_FALSE(recordings.any());
  EXPECT_EQ(advice(call(2, plan)), Advice::record);
  recordings.keep(std::make_unique<Recording>(alive));
  EXPECT_TRUE(recordings.any());
  const auto found = recordings.find(call(2, plan), weights);
  EXPECT_EQ(found.advice, Advice::replay);
  EXPECT_NE(found.recording, nullptr);
}

TEST_F(RecordingsTest, OtherCallsHaveTheirOwn) {
  record(call(2, plan));
  EXPECT_EQ(advice(call(3, plan)), Advice::run);
  EXPECT_EQ(advice(call(2, make_plan())), Advice::run);  // another schedule or image size
  auto other = call(2, plan);
  other.request.trace = true;
  EXPECT_EQ(advice(other), Advice::run);
  other.request.blocks = {1};
  EXPECT_EQ(advice(other), Advice::run);
  EXPECT_EQ(advice(call(2, plan)), Advice::replay);
}

TEST_F(RecordingsTest, MovedWeightsEndThem) {
  record(call(2, plan));
  weights[1] = 7;
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
  EXPECT_EQ(alive, 0);
}

TEST_F(RecordingsTest, ACallThatCannotBeRecordedRunsWithout) {
  advice(call(2, plan));
  for (int tries = 0; tries < 3; ++tries) {
    EXPECT_EQ(advice(call(2, plan)), Advice::record);
    recordings.keep(nullptr);
  }
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
  EXPECT_FALSE(recordings.any());
}

TEST_F(RecordingsTest, TheCallNotSeenForLongestIsForgotten) {
  record(call(1, plan));
  record(call(2, plan));
  for (int64_t images = 3; images <= 16; ++images) {
    advice(call(images, plan));
  }
  EXPECT_EQ(advice(call(1, plan)), Advice::replay);  // seen again, so call 2 is the oldest
  EXPECT_EQ(advice(call(17, plan)), Advice::run);    // takes the place of call 2
  EXPECT_EQ(alive, 1);
  EXPECT_EQ(advice(call(1, plan)), Advice::replay);
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
}

TEST_F(RecordingsTest, ClearingForgetsAll) {
  record(call(2, plan));
  recordings.clear();
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(advice(call(2, plan)), Advice::run);
}

}  // namespace
