#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>

#include "dsm_ext/ops.h"
#include "model/check_inputs.h"
#include "model/state.h"

namespace dsm_ext {
namespace {

// Switches off autograd, and autocast, because the model computes in the dtype of its weights.
class Inference {
  at::NoGradGuard no_grad_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

// Gives each patch the value of the token that holds it: [B, P + gh * gw, C].
at::Tensor unmerged(const at::Tensor& tokens, const at::Tensor& source, int64_t prefix) {
  const auto own = at::arange(prefix, source.options()).expand({source.size(0), -1});
  return unmerge(tokens, at::cat({own, source}, 1));
}

void check_size(const at::Tensor& size, const at::Tensor& features) {
  check_plain(size, "size");
  TORCH_CHECK_VALUE(
      size.dim() == 2 && size.size(0) == features.size(0) && size.size(1) == features.size(1),
      "dsm_ext.VisionTransformer: expected size to be [", features.size(0), ", ", features.size(1),
      "], got ", size.sizes());
  TORCH_CHECK_TYPE(
      size.scalar_type() == at::kFloat,
      "dsm_ext.VisionTransformer: expected size to be float32, got ", size.scalar_type());
  TORCH_CHECK_VALUE(
      size.device() == features.device(), "dsm_ext.VisionTransformer: expected size on ",
      features.device(), " like the features, got ", size.device());
}

}  // namespace

Outputs VisionTransformerImpl::State::run(const at::Tensor& images, const Request& request) {
  try {
    check_images(images, config, any_weight());
  } catch (const c10::TypeError&) {
    // The images may be right and `any_weight` wrong: then this check throws a better error.
    const std::lock_guard lock(mutex);
    parameters->check();
    throw;
  }
  const Inference guard;
  const auto plan = compiled_plan(images);
  if (images.size(0) == 0) {
    return allocate_outputs(request, *plan, 0, images.options());
  }
  return executor(images.device())->run(images, request, plan, nullptr);
}

at::Tensor VisionTransformerImpl::forward(const at::Tensor& images) const {
  if (state_->config.global_pool == Pool::none) {
    return forward_features(images);
  }
  return state_->run(images, {.logits = true}).logits;
}

at::Tensor VisionTransformerImpl::forward_features(const at::Tensor& images, bool dense) const {
  const auto outputs = state_->run(images, {.features = true, .trace = dense});
  return dense ? unmerged(outputs.features, outputs.source, state_->config.prefix())
               : outputs.features;
}

at::Tensor VisionTransformerImpl::forward_head(
    const at::Tensor& features, const std::optional<at::Tensor>& size, bool pre_logits) const {
  const auto& config = state_->config;
  check_features(features, config, state_->any_weight());
  const Inference guard;
  const int64_t m = features.size(1), all = config.tokens();
  TORCH_CHECK_VALUE(
      m >= std::max(config.pooled_tokens(), config.prefix() + 1),
      "dsm_ext.VisionTransformer: expected features of at least ", config.prefix() + 1,
      " tokens, got ", m);
  const bool pools_by_size = config.global_pool == Pool::avg || config.global_pool == Pool::map;
  bool proportional = false, merges = false;
  {
    const std::lock_guard lock(state_->mutex);
    proportional = state_->schedule.proportional();
    merges = state_->plan.tokens_out() < state_->plan.tokens_dense;
    if (!pre_logits || config.global_pool == Pool::map) {
      state_->check_not_frozen();
    }
  }
  TORCH_CHECK_VALUE(
      !pools_by_size || size || m == all || !merges,
      "dsm_ext.VisionTransformer: expected the size of each token beside ", m,
      " features that are pooled by size, or features of all ", all,
      " tokens, as forward_features gives them with dense=True");
  if (size) {
    check_size(*size, features);
  }
  const aten::TokenState state{
      .tokens = features,
      .size = size.value_or(at::Tensor()),
      .log_size = {},
      .source = {},
      .location = {}};
  const auto& head = state_->aten_executor->head();
  return pre_logits ? head.pooled(state, proportional).clone() : head.logits(state, proportional);
}

Outputs VisionTransformerImpl::forward_with_features(const at::Tensor& images) const {
  const bool none = state_->config.global_pool == Pool::none;
  auto outputs = state_->run(images, {.logits = !none, .features = true, .trace = true});
  if (none) {
    outputs.logits = outputs.pooled = outputs.features;
  } else {
    outputs.pooled = forward_head(outputs.features, outputs.size, /*pre_logits=*/true);
  }
  return outputs;
}

std::vector<Intermediate> VisionTransformerImpl::forward_intermediates(
    const at::Tensor& images, const std::vector<int64_t>& blocks, bool norm) const {
  const bool ascending =
      std::adjacent_find(blocks.begin(), blocks.end(), std::greater_equal<>()) == blocks.end();
  TORCH_CHECK_VALUE(
      !blocks.empty() && ascending && blocks.front() >= 0 && blocks.back() < state_->config.depth,
      "dsm_ext.VisionTransformer: expected ascending indices of blocks in [0, ",
      state_->config.depth - 1, "], got ", blocks);
  return state_->run(images, {.blocks = blocks, .norm = norm}).intermediates;
}

Trace VisionTransformerImpl::trace(const at::Tensor& images) const {
  const bool none = state_->config.global_pool == Pool::none;
  auto outputs = state_->run(images, {.logits = !none, .features = none, .trace = true});
  return {none ? outputs.features : outputs.logits, outputs.source, outputs.size, outputs.location};
}

at::Tensor VisionTransformerImpl::class_attention(const at::Tensor& images, int64_t block) const {
  const auto& config = state_->config;
  const int64_t index = block < 0 ? block + config.depth : block;
  TORCH_CHECK_VALUE(
      index >= 0 && index < config.depth, "dsm_ext.VisionTransformer: expected block to be in [",
      -config.depth, ", ", config.depth - 1, "], got ", block);
  const auto outputs = state_->run(images, {.attention_block = index});
  const auto shares = outputs.class_attention.div(outputs.size.unsqueeze(1));  // [B, H, N]
  const auto source = outputs.source.to(at::kLong).unsqueeze(1);               // [B, 1, gh * gw]
  const auto patches = shares.gather(2, source.expand({-1, shares.size(1), -1}));
  return patches.unflatten(
      2, {images.size(2) / config.patch_size[0], images.size(3) / config.patch_size[1]});
}

Profile VisionTransformerImpl::profile(const at::Tensor& images) const {
  check_images(images, state_->config, state_->any_weight());
  const Inference guard;
  TORCH_CHECK_VALUE(images.size(0) > 0, "dsm_ext.VisionTransformer: expected images, got none");
  const bool none = state_->config.global_pool == Pool::none;
  const auto plan = state_->compiled_plan(images);
  const auto executor = state_->executor(images.device());
  StageTimer timer(images.device());
  executor->run(images, {.logits = !none, .features = none}, plan, &timer);
  return timer.read();
}

}  // namespace dsm_ext
