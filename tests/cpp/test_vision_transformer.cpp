#include <ATen/ATen.h>
#include <ATen/TracerMode.h>
#include <gtest/gtest.h>

#include <thread>

#include "dsm_ext/dsm_ext.h"
#include "small_model.h"

using dsm_ext::Schedule;
using dsm_ext::VisionTransformer;

namespace {

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

// The logits of the dense model, computed from its weights with ATen's operators alone.
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

TEST(VisionTransformer, GivesFeaturesAndLogitsOfOnePass) {
  auto model = small_model("dsm:r=16,skip=1,local=2");
  const auto images = at::randn({3, 3, 56, 56});
  const auto outputs = model->forward_with_features(images);
  EXPECT_LT(difference(outputs.logits, model->forward(images)), 1e-5);
  EXPECT_TRUE(at::equal(outputs.features, model->forward_features(images)));
  EXPECT_TRUE(at::equal(outputs.source, model->trace(images).source));
  EXPECT_TRUE(at::equal(outputs.pooled, outputs.features.select(1, 0)));
  EXPECT_LT(difference(model->forward_head(outputs.features), outputs.logits), 1e-5);
  EXPECT_TRUE(
      at::equal(
          model->forward_head(outputs.features, outputs.size, /*pre_logits=*/true),
          outputs.pooled));
  EXPECT_THROW(model->forward_head(outputs.features.select(0, 0)), c10::ValueError);
}

TEST(VisionTransformer, RefusesImagesWithoutMemoryOfTheirOwn) {
  auto model = small_model("dense");
  const auto images = at::randn({1, 3, 56, 56});
  EXPECT_THROW(model->forward(images.to_sparse()), c10::TypeError);
  at::tracer::impl::set_dispatch_enabled(true);
  EXPECT_THROW(model->forward(images), c10::NotImplementedError);
  at::tracer::impl::set_dispatch_enabled(false);
  EXPECT_EQ(model->forward(images).size(0), 1);
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

// The weights are not packed yet when the threads start, and the schedule changes between calls.
TEST(VisionTransformer, SchedulesChangeWhileThreadsRun) {
  auto model = small_model("dense");
  const auto images = at::randn({2, 3, 56, 56});
  const std::vector<Schedule> schedules = {
      Schedule::dense(4), Schedule::parse("dsm:r=16,skip=1,local=2", 4),
      Schedule::parse("tome:r=13", 4)};
  std::vector<at::Tensor> expected;
  for (const auto& schedule : schedules) {
    auto other = small_model("dense");
    other->set_schedule(schedule);
    expected.push_back(other->forward(images));
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const auto logits = model->forward(images);
        wrong += std::none_of(expected.begin(), expected.end(), [&](const auto& one) {
          return difference(logits, one) <= 1e-5;
        });
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    model->set_schedule(schedules[i % schedules.size()]);
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

// The class token pays some attention to itself, so the patches of a head get less than 1.
TEST(VisionTransformer, ClassAttentionIsOfPatches) {
  auto model = small_model("tome:r=30,metric=keys+tokens,protect=0.2");
  const auto images = at::randn({2, 3, 56, 56});
  for (const auto path : {dsm_ext::CpuPath::fast, dsm_ext::CpuPath::aten}) {
    model->set_cpu_path(path);
    const auto attention = model->class_attention(images);
    EXPECT_EQ(attention.sizes(), (std::vector<int64_t>{2, model->config().num_heads, 14, 14}));
    const auto sums = attention.sum({2, 3});
    EXPECT_TRUE(sums.gt(0).all().item<bool>() && sums.lt(1).all().item<bool>()) << sums;
    EXPECT_TRUE(at::equal(attention, model->class_attention(images, 3)));
  }
  EXPECT_THROW(model->class_attention(images, 4), c10::ValueError);
}

TEST(VisionTransformer, TakesEveryFeature) {
  auto config = small_config();
  config.reg_tokens = 2;
  config.no_embed_class = true;
  config.dynamic_img_size = true;
  config.norm_layer = dsm_ext::NormKind::rms_norm;
  config.mlp_layer = dsm_ext::MlpKind::swiglu;
  config.act_layer = dsm_ext::Activation::silu;
  config.layer_scale = config.qk_norm = config.scale_attn_norm = config.scale_mlp_norm = true;
  config.pre_norm = config.embed_norm = config.fc_norm = true;
  config.qkv_bias = config.proj_bias = false;
  config.global_pool = dsm_ext::Pool::map;
  at::manual_seed(0);
  VisionTransformer model(config, Schedule::parse("dsm:r=8", 4));
  model->load_parameters(random_weights(model));
  for (const auto size : {56, 40}) {
    const auto images = at::randn({3, 3, size, size});
    const auto expected = model->forward(images);
    model->set_cpu_path(dsm_ext::CpuPath::aten);
    EXPECT_LT(difference(model->forward(images), expected), 1e-5);
    model->set_cpu_path(dsm_ext::CpuPath::fast);
  }
  config.block = dsm_ext::BlockKind::parallel;
  EXPECT_THROW(VisionTransformer(config, Schedule::dense(4)), c10::ValueError);
  config.mlp_layer = dsm_ext::MlpKind::mlp;
  config.scale_attn_norm = config.scale_mlp_norm = false;
  VisionTransformer parallel(config, Schedule::parse("dsm:r=8", 4));
  parallel->load_parameters(random_weights(parallel));
  EXPECT_EQ(parallel->forward(at::randn({2, 3, 56, 56})).sizes(), (at::IntArrayRef{2, 10}));
}

TEST(VisionTransformer, GivesEveryPatchItsFeatures) {
  auto model = small_model("dsm:r=16,skip=1,local=2");
  const auto images = at::randn({2, 3, 56, 56});
  const auto tokens = model->forward_features(images);
  const auto dense_features = model->forward_features(images, /*dense=*/true);
  EXPECT_EQ(dense_features.sizes(), (at::IntArrayRef{2, 197, 32}));
  const auto source = model->trace(images).source.to(at::kLong);
  for (int64_t image = 0; image < 2; ++image) {
    EXPECT_TRUE(
        at::equal(
            dense_features[image].narrow(0, 1, 196), tokens[image].index_select(0, source[image])));
  }
  const auto blocks = model->forward_intermediates(images, {0, 2});
  ASSERT_EQ(blocks.size(), 2);
  EXPECT_EQ(blocks[0].tokens.sizes(), (at::IntArrayRef{2, 197, 32}));
  EXPECT_EQ(blocks[1].tokens.size(1), model->plan().blocks[2].tokens_out);
  EXPECT_EQ(blocks[1].size.sum().item<float>(), 2 * 197);
  EXPECT_THROW(model->forward_intermediates(images, {2, 1}), c10::ValueError);
  EXPECT_THROW(model->forward_intermediates(images, {4}), c10::ValueError);
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

TEST(VisionTransformer, TakesNoImagesBeforeItHasWeights) {
  VisionTransformer model(small_config(), Schedule::dense(4));
  EXPECT_TRUE(model->parameters().front().is_meta());
  EXPECT_THROW(model->forward(at::zeros({1, 3, 56, 56})), c10::ValueError);
}

TEST(VisionTransformer, ProfilesAndFreezes) {
  auto model = small_model("dsm:r=16,skip=1,local=2");
  const auto images = at::randn({2, 3, 56, 56});
  const auto expected = model->forward(images);
  const auto profile = model->profile(images);
  EXPECT_EQ(profile.seconds.size(), 6u);
  EXPECT_GT(profile.wall, 0);
  EXPECT_STREQ(to_string(dsm_ext::Stage::attention), "attention");
  model->freeze();
  EXPECT_TRUE(model->frozen());
  EXPECT_TRUE(at::equal(model->forward(images), expected));
}

TEST(BuildInfo, NamesVersions) {
  const auto info = dsm_ext::build_info();
  EXPECT_STREQ(info.version, DSM_EXT_VERSION);
  EXPECT_GE(std::string(info.torch).size(), 5u);
  EXPECT_NE(info.str().find(info.instruction_set), std::string::npos);
  const std::vector<std::string> known = {"AVX-512", "AVX2", "baseline"};
  EXPECT_EQ(std::count(known.begin(), known.end(), info.instruction_set), 1);
}

}  // namespace
