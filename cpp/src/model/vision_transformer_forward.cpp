#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "attention_pool.h"
#include "block.h"
#include "cpu/engine.h"
#include "cuda/graphs.h"
#include "dsm_ext/ops.h"
#include "images.h"
#include "pass.h"
#include "patches.h"
#include "positions.h"

namespace dsm_ext {
namespace {

// Nothing is recorded, and autocast keeps out: the model's dtype is its weights'.
class Inference {
  at::NoGradGuard no_grad_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

// Each patch's token, and in front of them the prefix tokens.
at::Tensor unmerged(const at::Tensor& tokens, const at::Tensor& source, int64_t prefix) {
  const auto own = at::arange(prefix, source.options()).expand({source.size(0), -1});
  return unmerge(tokens, at::cat({own, source}, 1));
}

}  // namespace

Sequence VisionTransformerImpl::embed(const at::Tensor& patches, const Layout& layout) const {
  const int64_t b = patches.size(0), c = config_.embed_dim, prefix = config_.prefix();
  const auto grid =
      normalize(embed_norm_, linear(patches, patch_embed_->weight.flatten(1), patch_embed_->bias));
  at::Tensor positions;  // [1, N, C], or without rows for the prefix
  if (config_.pos_embed) {
    positions = resample_positions(pos_embed_, config_, layout.config().grid());
  }
  const int64_t without = config_.no_embed_class ? prefix : 0;
  auto tokens = at::empty({b, prefix + grid.size(1), c}, patches.options());
  int64_t begin = 0;
  for (const auto& part : {cls_token_, dist_token_, reg_token_, grid}) {
    if (!part.defined()) {
      continue;
    }
    const int64_t count = part.size(1);
    auto rows = tokens.narrow(1, begin, count);
    if (positions.defined() && begin >= without) {
      at::add_out(rows, part.expand({b, count, c}), positions.narrow(1, begin - without, count));
    } else {
      rows.copy_(part);
    }
    begin += count;
  }
  return {normalize(norm_pre_, tokens), {}, {}, {}};
}

// What the head takes, [B, C], of normalised tokens: at least those that are pooled.
at::Tensor VisionTransformerImpl::pooled(const Sequence& sequence, bool proportional) const {
  const auto& tokens = sequence.tokens;
  const int64_t first = config_.pool_include_prefix ? 0 : config_.prefix();
  const int64_t count = tokens.size(1) - first;
  at::Tensor x;
  switch (config_.global_pool) {
    case Pool::none:
      return tokens;
    case Pool::token:
      x = tokens.select(1, 0);
      break;
    case Pool::avg:
      x = tokens.narrow(1, first, count);
      if (sequence.size.defined()) {
        const auto size = sequence.size.narrow(1, first, count).unsqueeze(2);  // [B, N, 1]
        x = x.to(at::kFloat).mul(size / size.sum(1, /*keepdim=*/true)).sum(1);
        x = x.to(tokens.scalar_type());
      } else {
        x = x.mean(1);
      }
      break;
    case Pool::map: {
      Sequence part{
          .tokens = tokens.narrow(1, first, count), .size = {}, .log_size = {}, .source = {}};
      if (proportional && sequence.size.defined()) {
        part.size = sequence.size.narrow(1, first, count);
        part.log_size = log_sizes(part.size, tokens.scalar_type());
      }
      x = (*attn_pool_)(part.tokens, part.bias(proportional));
    }
  }
  x = normalize(fc_norm_, x);
  return config_.distilled ? (x + tokens.select(1, 1)).div_(2) : x;
}

at::Tensor VisionTransformerImpl::logits(const Sequence& sequence, bool proportional) const {
  const auto& tokens = sequence.tokens;
  if (head_ != nullptr && config_.distilled) {
    return ((*head_)(tokens.select(1, 0)) + (*head_dist_)(tokens.select(1, 1))).div_(2);
  }
  const auto x = pooled(sequence, proportional);
  return head_ ? (*head_)(x) : x;
}

// By ATen's operators and ours.
Passed VisionTransformerImpl::run(
    const at::Tensor& patches, const Layout& layout, const Wanted& wanted,
    std::optional<c10::Stream> side, Stopwatch* watch) const {
  const bool proportional = layout.schedule().proportional();
  const bool whole = wanted.whole(config_);
  Passed passed;
  auto sequence = embed(patches, layout);
  InterruptCheck interrupt;
  sequence.side = side;
  sequence.watch = watch;
  sequence.interrupt = patches.is_cpu() ? &interrupt : nullptr;
  sequence.mark(Stage::embed);
  if (wanted.trace || !wanted.blocks.empty()) {
    sequence.source = at::arange(layout.config().patches(), patches.options().dtype(at::kInt))
                          .add_(config_.prefix())
                          .repeat({patches.size(0), 1});
  }
  auto next = wanted.blocks.begin();
  for (int64_t i = 0; i < wanted.depth(config_); ++i) {
    sequence.begin_part();
    if (!whole && i + 1 == config_.depth) {
      sequence.tokens = blocks_[i]->forward_rows(sequence, config_.pooled_tokens(), proportional);
    } else {
      blocks_[i]->forward(sequence, layout.plan().blocks[i], layout);
    }
    if (next != wanted.blocks.end() && *next == i) {
      passed.blocks.push_back(
          {wanted.norm ? normalize(norm_, sequence.tokens) : sequence.tokens,
           sequence.source.clone(), sequence.sizes().clone()});
      ++next;
    }
  }
  sequence.begin_part();
  if (wanted.logits || wanted.features) {
    sequence.tokens = normalize(norm_, sequence.tokens);
  }
  if (wanted.features) {
    passed.features = sequence.tokens;
  }
  if (wanted.logits) {
    passed.logits = logits(sequence, proportional);
  }
  sequence.mark(Stage::head);
  if (wanted.trace) {
    passed.source = sequence.source;
    passed.size = sequence.sizes();
  }
  return passed;
}

Passed VisionTransformerImpl::pass(const at::Tensor& images, const Wanted& wanted) const {
  try {
    check_images(images, config_, patch_embed_->weight);
  } catch (const c10::TypeError&) {  // the weight may be the one that does not fit the others
    const std::lock_guard lock(mutex_);
    check_parameters();
    throw;
  }
  const Inference guard;
  const auto layout = this->layout(images);
  if (images.size(0) == 0) {
    return allocate(wanted, *layout, 0, images.options());
  }
  if (const auto engine = this->engine()) {
    return engine->forward(images, *layout, wanted);
  }
  if (images.is_cuda()) {
    layout->used_on(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(images.device()));
  }
  const auto run = [&](const at::Tensor& patches, std::optional<c10::Stream> side = {}) {
    return this->run(patches, *layout, wanted, side);
  };
  if (cuda::Graphs::takes(images.device()) && cuda_graphs()) {
    return graphs_->forward(images, layout, wanted, recordings_key(), run);
  }
  return run(cut_into_patches(images, layout->config()));
}

at::Tensor VisionTransformerImpl::forward(const at::Tensor& images) const {
  if (config_.global_pool == Pool::none) {
    return forward_features(images);
  }
  return pass(images, {.logits = true}).logits;
}

at::Tensor VisionTransformerImpl::forward_features(const at::Tensor& images, bool dense) const {
  const auto passed = pass(images, {.features = true, .trace = dense});
  return dense ? unmerged(passed.features, passed.source, config_.prefix()) : passed.features;
}

at::Tensor VisionTransformerImpl::forward_head(
    const at::Tensor& features, const std::optional<at::Tensor>& size, bool pre_logits) const {
  check_features(features, config_, patch_embed_->weight);
  const Inference guard;
  const auto layout = this->layout();
  const int64_t b = features.size(0), m = features.size(1), all = config_.tokens();
  const bool any = config_.global_pool == Pool::token || config_.global_pool == Pool::none;
  TORCH_CHECK_VALUE(
      m >= std::max(config_.pooled_tokens(), config_.prefix() + 1),
      "dsm_ext.VisionTransformer: expected features of at least ", config_.prefix() + 1,
      " tokens, got ", m);
  TORCH_CHECK_VALUE(
      any || size || m == all || layout->plan().tokens_out() == layout->plan().tokens_dense,
      "dsm_ext.VisionTransformer: expected the size of each token beside ", m,
      " features that are pooled by size, or features of all ", all,
      " tokens, as forward_features gives them with dense=True");
  if (size) {
    check_plain(*size, "size");
    TORCH_CHECK_VALUE(
        size->dim() == 2 && size->size(0) == b && size->size(1) == m,
        "dsm_ext.VisionTransformer: expected size to be [", b, ", ", m, "], got ", size->sizes());
    TORCH_CHECK_TYPE(
        size->scalar_type() == at::kFloat,
        "dsm_ext.VisionTransformer: expected size to be float32, got ", size->scalar_type());
    TORCH_CHECK_VALUE(
        size->device() == features.device(), "dsm_ext.VisionTransformer: expected size on ",
        features.device(), " like the features, got ", size->device());
  }
  if (!pre_logits || config_.global_pool == Pool::map) {
    const std::lock_guard lock(mutex_);
    check_not_frozen();
  }
  const Sequence sequence{
      .tokens = features, .size = size.value_or(at::Tensor()), .log_size = {}, .source = {}};
  const bool proportional = layout->schedule().proportional();
  return pre_logits ? pooled(sequence, proportional).clone() : logits(sequence, proportional);
}

Outputs VisionTransformerImpl::forward_with_features(const at::Tensor& images) const {
  const bool none = config_.global_pool == Pool::none;
  auto passed = pass(images, {.logits = !none, .features = true, .trace = true});
  auto pooled =
      none ? passed.features : forward_head(passed.features, passed.size, /*pre_logits=*/true);
  return {none ? passed.features : passed.logits, std::move(pooled), passed.features, passed.size};
}

std::vector<Intermediate> VisionTransformerImpl::forward_intermediates(
    const at::Tensor& images, const std::vector<int64_t>& blocks, bool norm) const {
  const bool ascending =
      std::adjacent_find(blocks.begin(), blocks.end(), std::greater_equal<>()) == blocks.end();
  TORCH_CHECK_VALUE(
      !blocks.empty() && ascending && blocks.front() >= 0 && blocks.back() < config_.depth,
      "dsm_ext.VisionTransformer: expected ascending indices of blocks in [0, ", config_.depth - 1,
      "], got ", blocks);
  return pass(images, {.blocks = blocks, .norm = norm}).blocks;
}

Trace VisionTransformerImpl::trace(const at::Tensor& images) const {
  const bool none = config_.global_pool == Pool::none;
  auto passed = pass(images, {.logits = !none, .features = none, .trace = true});
  return {none ? passed.features : passed.logits, passed.source, passed.size};
}

Profile VisionTransformerImpl::profile(const at::Tensor& images) const {
  check_images(images, config_, patch_embed_->weight);
  const Inference guard;
  TORCH_CHECK_VALUE(images.size(0) > 0, "dsm_ext.VisionTransformer: expected images, got none");
  const auto layout = this->layout(images);
  const bool none = config_.global_pool == Pool::none;
  const Wanted wanted{.logits = !none, .features = none};
  if (const auto engine = this->engine()) {
    Profile profile;
    engine->forward(images, *layout, wanted, &profile);
    return profile;
  }
  Stopwatch watch(images.device());
  run(cut_into_patches(images, layout->config()), *layout, wanted, std::nullopt, &watch);
  return watch.read();
}

}  // namespace dsm_ext
