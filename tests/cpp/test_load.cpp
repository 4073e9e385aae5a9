#include "dsm_ext/load.h"

#include <gtest/gtest.h>

#include "files.h"
#include "small_model.h"

namespace {

const std::string kConfig =
    R"({"num_classes":10,"label_names":["0","1","2","3","4","5","6","7","8","9"],)"
    R"("pretrained_cfg":{"crop_pct":0.5,"mean":[0.5]},"dsm_ext":{"config":{"img_size":[56,56],)"
    R"("patch_size":[4,4],"num_classes":10,"embed_dim":32,"depth":4,"num_heads":2,"mlp_dim":64,"eps":1e-6,)"
    R"("act_layer":"gelu","global_pool":"token"},)"
    R"("schedule":{"blocks":[[],[{"local":16,"window":7}],[{"local":16,"window":7},{"global":8}],)"
    R"([{"global":16}]],"proportional":true}}})";

// A config as on the Hub: timm's architecture `test_vit` has 2 heads and eps 1e-6.
const std::string kHubConfig =
    R"({"architecture":"test_vit","num_classes":10,"pretrained_cfg":{"input_size":[3,56,56]}})";

class Load : public testing::Test {
 protected:
  Load() {
    weights_ = random_weights(model_);
    model_->load_parameters(weights_);
    folder_.write("model.safetensors", safetensors(weights_));
    folder_.write("config.json", kConfig);
  }

  // The message of the error that loading the folder throws, or "none".
  std::string fault(const std::optional<std::string>& schedule = {}) {
    try {
      dsm_ext::load(folder_.path(), schedule);
    } catch (const dsm_ext::Error& error) {
      return error.what();
    }
    return "none";
  }

  Folder folder_;
  dsm_ext::VisionTransformer model_ = small_model("dense");
  dsm_ext::NamedTensors weights_;
  at::Tensor images_ = at::randn({2, 3, 56, 56});
};

TEST_F(Load, GivesTheModelOfAFolder) {
  const auto info = dsm_ext::model_info(folder_.path());
  EXPECT_EQ(info.config.depth, 4);
  EXPECT_EQ(info.schedule.blocks()[2].size(), 2u);
  EXPECT_EQ(info.labels[7], "7");
  EXPECT_EQ(info.preprocessing.crop_pct, 0.5);
  EXPECT_EQ(info.preprocessing.mean, std::vector<double>(3, 0.5));
  EXPECT_EQ(info.preprocessing.size, (std::array<int64_t, 2>{56, 56}));
  auto model = dsm_ext::load(folder_.path());
  EXPECT_EQ(model->schedule(), info.schedule);
  model_->set_schedule(info.schedule);
  EXPECT_TRUE(at::allclose(model->forward(images_), model_->forward(images_), 1e-6, 1e-6));
}

TEST_F(Load, InfersAHubFolder) {
  folder_.write("config.json", kHubConfig);
  const auto info = dsm_ext::model_info(folder_.path());
  EXPECT_EQ(info.architecture, "test_vit");
  EXPECT_EQ(info.config.depth, 4);
  EXPECT_EQ(info.config.num_heads, 2);
  EXPECT_EQ(info.config.mlp_dim, 64);
  EXPECT_EQ(info.config.img_size, (std::array<int64_t, 2>{56, 56}));
  EXPECT_EQ(info.schedule, dsm_ext::Schedule::dsm(4));
  auto model = dsm_ext::load(folder_.path(), "dense");
  EXPECT_TRUE(at::allclose(model->forward(images_), model_->forward(images_), 1e-6, 1e-6));
}

TEST_F(Load, TakesAFileThatHoldsItsConfig) {
  std::string quoted = kConfig;
  for (size_t at = 0; (at = quoted.find('"', at)) != std::string::npos; at += 2) {
    quoted.insert(at, 1, '\\');
  }
  folder_.write("one.safetensors", safetensors(weights_, R"({"config.json":")" + quoted + "\"}"));
  auto model = dsm_ext::load(folder_.path("one.safetensors"), "dense");
  EXPECT_TRUE(at::allclose(model->forward(images_), model_->forward(images_), 1e-6, 1e-6));
  EXPECT_THROW(dsm_ext::load(folder_.path("model.safetensors")), dsm_ext::Error);
}

TEST_F(Load, KeepsItsWeightsWhenTheFileChanges) {
  const auto path = folder_.path("model.safetensors");
  for (const bool deleted : {false, true}) {
    auto model = dsm_ext::load(folder_.path(), "dense");
    folder_.write("model.safetensors", std::string(std::filesystem::file_size(path), '\x7f'));
    std::filesystem::resize_file(path, 100);
    if (deleted) {
      std::filesystem::remove(path);
    }
    const auto logits = model->forward(images_);
    EXPECT_TRUE(at::allclose(logits, model_->forward(images_), 1e-6, 1e-6));
    for (const auto& [name, weight] : weights_) {
      EXPECT_TRUE(at::equal(model->named_parameters()[name], weight)) << name;
    }
    model->freeze();
    EXPECT_TRUE(at::equal(model->forward(images_), logits));
    folder_.write("model.safetensors", safetensors(weights_));
  }
}

TEST_F(Load, ReportsUnknownNormalisation) {
  folder_.write("config.json", R"({"architecture":"test_vit"})");
  auto info = dsm_ext::model_info(folder_.path());
  const auto picture = at::zeros({60, 60, 3}, at::kByte);
  EXPECT_FALSE(info.preprocessing.known());
  EXPECT_THROW(info.preprocessing(picture), c10::ValueError);
  info.preprocessing.mean = info.preprocessing.std = {0.5, 0.5, 0.5};
  EXPECT_TRUE(info.preprocessing.known());
  EXPECT_EQ(info.preprocessing(picture)[0][0][0].item<float>(), -1);
}

TEST_F(Load, ConvertsWhereAsked) {
  dsm_ext::LoadOptions options;
  options.dtype = at::kBFloat16;
  options.check_finite = true;
  auto model = dsm_ext::load(folder_.path(), "dense", options);
  EXPECT_EQ(model->forward(images_.to(at::kBFloat16)).scalar_type(), at::kBFloat16);
}

TEST_F(Load, TakesTheExportedPrecision) {
  const auto with = [&](const std::string& precision) {
    auto config = kConfig;
    const std::string place = R"("schedule":)";
    return config.insert(config.find(place), R"("precision":")" + precision + R"(",)");
  };
  EXPECT_FALSE(dsm_ext::model_info(folder_.path()).precision);
  folder_.write("config.json", with("int8"));
  EXPECT_EQ(dsm_ext::model_info(folder_.path()).precision, dsm_ext::Precision::int8);
  if (has_precision(dsm_ext::Precision::int8)) {
    EXPECT_EQ(dsm_ext::load(folder_.path())->precision(), dsm_ext::Precision::int8);
  }
  dsm_ext::LoadOptions options;
  options.precision = dsm_ext::Precision::float32;
  auto model = dsm_ext::load(folder_.path(), "dense", options);
  EXPECT_TRUE(at::equal(model->forward(images_), model_->forward(images_)));
  folder_.write("config.json", with("int4"));
  EXPECT_NE(fault().find("it has the unknown 'precision' 'int4'"), std::string::npos) << fault();
}

TEST_F(Load, NamesFaults) {
  EXPECT_THROW(dsm_ext::load(folder_.path(), "dsm:r=x"), c10::ValueError);
  EXPECT_THROW(dsm_ext::load(folder_.path(), "tome:r=500"), c10::ValueError);
  EXPECT_THROW(dsm_ext::load(folder_.path(), {}, {.dtype = at::kDouble}), c10::TypeError);
  EXPECT_THROW(
      dsm_ext::load(folder_.path(), {}, {.dtype = {}, .device = at::kMeta}), c10::ValueError);
  const auto config = folder_.path("config.json") + ": ";
  folder_.write("config.json", "{}");
  EXPECT_EQ(
      fault(), "dsm_ext: " + config +
                   "there is neither an 'architecture' of timm's nor a section 'dsm_ext'");
  folder_.write("config.json", R"({"architecture":"resnet50"})");
  EXPECT_NE(fault().find("'resnet50' is not one of the supported"), std::string::npos);
  folder_.write("config.json", kConfig);
  weights_.front().second.fill_(std::numeric_limits<float>::quiet_NaN());
  folder_.write("model.safetensors", safetensors(weights_));
  EXPECT_EQ(fault(), "none");
  EXPECT_THROW(
      dsm_ext::load(folder_.path(), {}, {.dtype = {}, .check_finite = true}), dsm_ext::Error);
  weights_.pop_back();
  folder_.write("model.safetensors", safetensors(weights_));
  EXPECT_NE(fault().find(folder_.path("model.safetensors") + ": "), std::string::npos);
  EXPECT_NE(fault().find("missing head"), std::string::npos) << fault();
  EXPECT_THROW(dsm_ext::load(folder_.path("nothing")), dsm_ext::Error);
  EXPECT_THROW(dsm_ext::model_info(""), dsm_ext::Error);
}

}  // namespace
