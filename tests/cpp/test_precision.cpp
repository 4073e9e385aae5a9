#include "dsm_ext/precision.h"

#include <gtest/gtest.h>

#include <array>

#include "small_model.h"

namespace {

using dsm_ext::Precision;

constexpr std::array kAll = {Precision::float32, Precision::bfloat16, Precision::int8};

TEST(Precision, HasNames) {
  for (const auto precision : kAll) {
    EXPECT_EQ(dsm_ext::parse_precision(to_string(precision)), precision);
  }
  EXPECT_EQ(dsm_ext::parse_precision("auto"), dsm_ext::fastest_precision());
  EXPECT_TRUE(has_precision(dsm_ext::fastest_precision()));
  EXPECT_THROW(dsm_ext::parse_precision("int4"), c10::ValueError);
}

TEST(Precision, ChangesTheResultsByRounding) {
  auto model = small_model("dsm:r=16,skip=1,local=2");
  const auto images = at::randn({2, 3, 56, 56});
  EXPECT_EQ(model->precision(), Precision::float32);
  EXPECT_FALSE(model->chosen_precision());
  const auto exact = model->forward(images);
  for (const auto precision : kAll) {
    if (!has_precision(precision)) {
      EXPECT_THROW(model->set_precision(precision), c10::NotImplementedError);
      continue;
    }
    model->set_precision(precision);
    EXPECT_EQ(model->chosen_precision(), precision);
    const auto error = (model->forward(images) - exact).abs().max().item<float>();
    EXPECT_LT(error, 0.2f * exact.abs().max().item<float>());
    EXPECT_EQ(error == 0, precision == Precision::float32);
  }
  EXPECT_EQ(model->parameters().front().scalar_type(), at::kFloat);
}

TEST(Precision, FollowsTheWeightsDtype) {
  auto model = small_model("dense");
  model->to(at::kBFloat16);
  const bool narrow = has_precision(Precision::bfloat16);
  EXPECT_EQ(model->precision(), narrow ? Precision::bfloat16 : Precision::float32);
  EXPECT_EQ(
      model->forward(at::randn({1, 3, 56, 56}).to(at::kBFloat16)).scalar_type(), at::kBFloat16);
}

TEST(Precision, NeedsTheFastPath) {
  auto model = small_model("dense");
  model->set_cpu_path(dsm_ext::CpuPath::aten);
  EXPECT_THROW(model->set_precision(Precision::int8), c10::NotImplementedError);
  model->set_precision(Precision::float32);
  if (has_precision(Precision::int8)) {
    model->set_cpu_path(dsm_ext::CpuPath::fast);
    model->set_precision(Precision::int8);
    model->set_cpu_path(dsm_ext::CpuPath::aten);
    EXPECT_THROW(model->forward(at::randn({1, 3, 56, 56})), c10::NotImplementedError);
  }
}

TEST(Precision, StaysWhenTheModelFreezes) {
  auto model = small_model("tome:r=8");
  const auto images = at::randn({3, 3, 56, 56});
  model->set_precision(dsm_ext::fastest_precision());
  const auto expected = model->forward(images);
  model->freeze();
  EXPECT_EQ(model->precision(), dsm_ext::fastest_precision());
  EXPECT_TRUE(at::equal(model->forward(images), expected));
  EXPECT_THROW(model->set_precision(Precision::float32), c10::Error);
}

}  // namespace
