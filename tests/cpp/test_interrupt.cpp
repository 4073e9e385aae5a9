#include "model/interrupt.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "small_model.h"

namespace {

std::atomic<int> asked;
std::atomic<int> allowed;  // how often the check lets the call go on

void ask() {
  if (++asked > allowed) {
    throw std::runtime_error("enough");
  }
}

class Interrupt : public testing::TestWithParam<dsm_ext::CpuPath> {
 protected:
  void SetUp() override {
    asked = 0;
    dsm_ext::set_interrupt_check(&ask);
  }
  void TearDown() override { dsm_ext::set_interrupt_check(nullptr); }
};

// The batch grows until a call asks the check twice, on a machine of any speed.
TEST_P(Interrupt, EndsACallWhereTheCheckThrows) {
  auto model = small_model("dsm:r=16,skip=1,local=2");
  model->set_cpu_path(GetParam());
  const auto images = at::randn({3, 3, 56, 56});
  allowed = 1'000'000;
  const auto expected = model->forward(images);
  allowed = 1;
  asked = 0;
  int64_t copies = 64;
  while (asked < 2) {
    ASSERT_LT(copies, 1 << 20);
    try {
      model->forward(images.repeat({copies, 1, 1, 1}));
      asked = 0;
      copies *= 2;
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "enough");
    }
  }
  EXPECT_EQ(asked, 2);  // the call did not continue after the check threw
  allowed = 1'000'000;
  EXPECT_TRUE(at::equal(model->forward(images), expected));
}

INSTANTIATE_TEST_SUITE_P(
    Paths, Interrupt, testing::Values(dsm_ext::CpuPath::fast, dsm_ext::CpuPath::aten));

}  // namespace
