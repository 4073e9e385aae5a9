// The text of the GPU's GELU, run on the CPU, against float64.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cuda_on_cpu.h"
#include "gelu.cuh"

namespace {

double exact(double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); }

TEST(CudaGelu, IsWithinItsErrorBounds) {
  for (int i = -200'000; i <= 200'000; ++i) {
    const float x = static_cast<float>(i) * 1e-4F;
    const double expected = exact(x), error = std::abs(dsm_ext::cuda::gelu(x) - expected);
    if (std::abs(expected) >= 0x1p-14) {
      ASSERT_LE(error, 2.6e-5 * std::abs(expected)) << x;
    } else {
      ASSERT_LE(error, 2e-9) << x;
      ASSERT_LE(error, 0.025 * std::abs(expected) + 2e-37) << x;
    }
  }
}

TEST(CudaGelu, TakesEveryMagnitude) {
  for (float x = std::numeric_limits<float>::denorm_min(); x < 1e-3F; x *= 7) {
    for (const float signed_x : {x, -x}) {
      const double expected = exact(signed_x);
      EXPECT_NEAR(dsm_ext::cuda::gelu(signed_x), expected, 2.6e-5 * x + 1e-45) << signed_x;
    }
  }
  for (float x = 20; x < 1e38F; x *= 7) {
    EXPECT_EQ(dsm_ext::cuda::gelu(x), x);
    EXPECT_EQ(dsm_ext::cuda::gelu(-x), 0);
  }
}

TEST(CudaGelu, TreatsNanAndInfinityLikeAten) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(dsm_ext::cuda::gelu(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(dsm_ext::cuda::gelu(-kInfinity)));
  EXPECT_TRUE(std::isnan(dsm_ext::cuda::gelu(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
