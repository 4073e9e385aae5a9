#include "dsm_ext/preprocessing.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

using dsm_ext::CropMode;
using dsm_ext::Preprocessing;

namespace {

Preprocessing plain(std::array<int64_t, 2> size, CropMode mode, double crop_pct = 1) {
  Preprocessing p;
  p.size = size;
  p.crop_mode = mode;
  p.crop_pct = crop_pct;
  p.mean = {0, 0, 0};
  p.std = {1. / 255, 1. / 255, 1. / 255};  // the result has values of 0 to 255
  return p;
}

// A picture whose value is its column, in all channels.
at::Tensor ramp(int64_t height, int64_t width) {
  return at::arange(width).to(at::kByte).view({1, width, 1}).expand({height, width, 3});
}

TEST(Preprocessing, CropsTheMiddle) {
  const auto x = plain({4, 4}, CropMode::center)(ramp(4, 10));  // has that height already
  EXPECT_EQ(x.sizes(), (at::IntArrayRef{3, 4, 4}));
  EXPECT_TRUE(at::allclose(x[0][0], at::tensor({3.f, 4.f, 5.f, 6.f})));
}

TEST(Preprocessing, SquashKeepsEverySide) {
  const auto x = plain({4, 10}, CropMode::squash)(ramp(4, 10));
  EXPECT_TRUE(at::allclose(x[2][3], at::arange(10).to(at::kFloat)));
}

TEST(Preprocessing, BorderIsFilledWithTheMean) {
  auto p = plain({8, 4}, CropMode::border);
  p.mean = {1, 1, 1};  // white
  const auto x = p(at::zeros({4, 4, 3}, at::kByte));
  EXPECT_NEAR(x[0][0][0].item<float>(), 0, 1e-3);     // the border is the mean
  EXPECT_NEAR(x[0][4][2].item<float>(), -255, 1e-3);  // the picture
}

TEST(Preprocessing, NormalisesEachChannel) {
  Preprocessing p;
  const auto x = p(at::full({30, 20, 3}, 51, at::kByte));
  EXPECT_EQ(x.sizes(), (at::IntArrayRef{3, 224, 224}));
  for (int c = 0; c < 3; ++c) {
    EXPECT_NEAR(x[c][100][100].item<float>(), (0.2 - p.mean[c]) / p.std[c], 1e-6);
  }
}

TEST(Preprocessing, RefusesWhatDoesNotFit) {
  const Preprocessing p;
  EXPECT_THROW(p(at::zeros({4, 4}, at::kByte)), c10::ValueError);
  EXPECT_THROW(p(at::zeros({4, 4, 4}, at::kByte)), c10::ValueError);
  EXPECT_THROW(p(at::zeros({0, 4, 3}, at::kByte)), c10::ValueError);
  EXPECT_THROW(p(at::zeros({4, 4, 3})), c10::TypeError);
  auto bad = p;
  bad.crop_pct = 0;
  EXPECT_THROW(bad.validate(), c10::ValueError);
}

}  // namespace
