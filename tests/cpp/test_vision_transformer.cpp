#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>

#include "dsm_ext/dsm_ext.h"

using dsm_ext::Config;
using dsm_ext::Schedule;
using dsm_ext::VisionTransformer;

namespace {

Config small_config(bool distilled = false) {
  Config config;
  config.img_size = {56, 56};
  config.patch_size = {4, 4};
  config.embed_dim = 32;
  config.depth = 4;
  config.num_heads = 2;
  config.mlp_dim = 64;
  config.num_classes = 10;
  config.distilled = distilled;
  return config;
}

using Weights = std::vector<std::pair<std::string, at::Tensor>>;

Weights random_weights(const VisionTransformer& model) {
  Weights weights;
  for (const auto& parameter : model->named_parameters()) {
    weights.emplace_back(parameter.key(), at::randn(parameter.value().sizes()) * 0.2);
  }
  return weights;
}

VisionTransformer small_model(const char* schedule, bool distilled = false) {
  at::manual_seed(0);
  VisionTransformer model(small_config(distilled), Schedule::parse(schedule, 4));
  model->load_parameters(random_weights(model));
  return model;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

// The blocks' own tensors by timm's names, computed with ATen's operators: what nothing merged
// gives.
at::Tensor dense(const VisionTransformer& model, const at::Tensor& images) {
  const auto weights = model->named_parameters();
  const auto get = [&](const std::string& name) { return weights[name]; };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {32}, get(name + ".weight"), get(name + ".bias"), 1e-6);
  };
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return at::linear(x, get(name + ".weight"), get(name + ".bias"));
  };
  auto x = at::conv2d(images, get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), 4);
  x = at::cat({get("cls_token").expand({images.size(0), 1, 32}), x.flatten(2).transpose(1, 2)}, 1);
  x = x + get("pos_embed");
  for (int i = 0; i < 4; ++i) {
    const auto block = "blocks." + std::to_string(i) + ".";
    const auto qkv = linear(norm(x, block + "norm1"), block + "attn.qkv").chunk(3, 2);
    std::vector<at::Tensor> heads;
    for (int h = 0; h < 2; ++h) {
      const auto q = qkv[0].narrow(2, 16 * h, 16), k = qkv[1].narrow(2, 16 * h, 16);
      heads.push_back(
          at::matmul(
              at::softmax(at::matmul(q, k.transpose(1, 2)) / 4, -1), qkv[2].narrow(2, 16 * h, 16)));
    }
    x = x + linear(at::cat(heads, 2), block + "attn.proj");
    const auto hidden = at::gelu(linear(norm(x, block + "norm2"), block + "mlp.fc1"));
    x = x + linear(hidden, block + "mlp.fc2");
  }
  return linear(norm(x, "norm").select(1, 0), "head");
}

TEST(VisionTransformer, EqualsItsDefinitionWithNothingMerged) {
  auto model = small_model("dense");
  const auto images = at::randn({3, 3, 56, 56});
  EXPECT_LT(difference(model->forward(images), dense(model, images)), 1e-5);
}

TEST(VisionTransformer, TracesEveryPatch) {
  for (const bool distilled : {false, true}) {
    auto model = small_model("dsm:r=16,skip=1,local=2", distilled);
    const auto images = at::randn({3, 3, 56, 56});
    const auto trace = model->trace(images);
    const auto tokens = model->plan().tokens_out();
    EXPECT_EQ(trace.source.sizes(), at::IntArrayRef({3, 196}));
    EXPECT_EQ(trace.size.sizes(), at::IntArrayRef({3, tokens}));
    const auto counted =
        at::zeros({3, tokens}).scatter_add(1, trace.source.to(at::kLong), at::ones({3, 196}));
    const int64_t prefix = model->config().prefix();
    EXPECT_TRUE(
        at::equal(
            counted.narrow(1, prefix, tokens - prefix),
            trace.size.narrow(1, prefix, tokens - prefix)));
    EXPECT_LT(difference(model->forward(images), trace.logits), 1e-5);
    EXPECT_EQ(model->forward_features(images).size(1), tokens);
  }
}

TEST(VisionTransformer, MovesAndConvertsAsATorchModule) {
  auto model = small_model("dsm");
  const auto images = at::randn({2, 3, 56, 56});
  const auto exact = model->forward(images);
  model->to(at::kBFloat16);
  const auto half = model->forward(images.to(at::kBFloat16));
  EXPECT_EQ(half.scalar_type(), at::kBFloat16);
  EXPECT_THROW(model->forward(images), c10::TypeError);
  EXPECT_EQ(half.sizes(), exact.sizes());
}

TEST(VisionTransformer, ThreadsShareOneModel) {
  auto model = small_model("dsm:r=16");
  const auto images = at::randn({4, 3, 56, 56});
  const auto expected = model->forward(images);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        wrong += difference(model->forward(images), expected) > 1e-5;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

TEST(VisionTransformer, NamesWeightsThatDoNotFit) {
  auto model = small_model("dense");
  const auto images = at::randn({1, 3, 56, 56});
  const auto before = model->forward(images);
  auto weights = random_weights(model);
  weights[3].second = at::zeros({5});
  const auto misshapen = weights[3].first;
  const auto missing = weights.back().first;
  weights.pop_back();
  weights.emplace_back("nothing.weight", at::zeros({1}));
  try {
    model->load_parameters(weights);
    FAIL() << "not refused";
  } catch (const c10::ValueError& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("missing " + missing), std::string::npos) << message;
    EXPECT_NE(message.find("unexpected nothing.weight"), std::string::npos) << message;
    EXPECT_NE(message.find("misshapen " + misshapen + " [5]"), std::string::npos) << message;
  }
  EXPECT_TRUE(at::equal(model->forward(images), before));
}

TEST(VisionTransformer, RefusesWrongImages) {
  auto model = small_model("dense");
  EXPECT_THROW(model->forward(at::zeros({3, 56, 56})), c10::ValueError);
  EXPECT_THROW(model->forward(at::zeros({1, 1, 56, 56})), c10::ValueError);
  EXPECT_THROW(model->forward(at::zeros({1, 3, 56, 57})), c10::ValueError);
  EXPECT_EQ(model->forward(at::zeros({0, 3, 56, 56})).sizes(), at::IntArrayRef({0, 10}));
}

TEST(BuildInfo, NamesVersions) {
  EXPECT_STREQ(dsm_ext::build_info().version, DSM_EXT_VERSION);
  EXPECT_GE(std::string(dsm_ext::build_info().torch).size(), 5u);
}

}  // namespace
