#include "dsm_ext/vision_transformer.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "block.h"
#include "cpu/engine.h"

namespace dsm_ext {
namespace {

// Nothing is recorded, and autocast keeps out: the model's dtype is its weights'.
class Inference {
  at::NoGradGuard no_grad_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

CpuPath cpu_path_of_environment() {
  const char* value = std::getenv("DSM_EXT_CPU");
  if (value == nullptr || std::string_view(value) == "fast") {
    return CpuPath::fast;
  }
  TORCH_CHECK_VALUE(
      std::string_view(value) == "reference",
      "dsm_ext: expected the environment variable DSM_EXT_CPU to be fast or reference, got ",
      value);
  return CpuPath::reference;
}

}  // namespace

VisionTransformerImpl::VisionTransformerImpl(Config config, Schedule schedule)
    : config_(config),
      layout_(std::make_shared<Layout>(config, std::move(schedule))),
      cpu_path_(cpu_path_of_environment()) {
  const c10::InferenceMode ordinary(false);  // the weights outlive the caller's inference mode
  const int64_t c = config_.embed_dim;
  cls_token_ = register_parameter("cls_token", at::empty({1, 1, c}), /*requires_grad=*/false);
  if (config_.distilled) {
    dist_token_ = register_parameter("dist_token", at::empty({1, 1, c}), /*requires_grad=*/false);
  }
  pos_embed_ =
      register_parameter("pos_embed", at::empty({1, config_.tokens(), c}), /*requires_grad=*/false);
  const auto patch_embed = register_module("patch_embed", std::make_shared<torch::nn::Module>());
  patch_embed_ = add_parameters(
      *patch_embed, "proj", {c, config_.in_chans, config_.patch_size[0], config_.patch_size[1]});
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  for (int64_t i = 0; i < config_.depth; ++i) {
    blocks_.push_back(blocks->register_module(std::to_string(i), std::make_shared<Block>(config_)));
  }
  norm_ = add_parameters(*this, "norm", {c});
  head_ = add_parameters(*this, "head", {config_.num_classes, c});
  if (config_.distilled) {
    head_dist_ = add_parameters(*this, "head_dist", {config_.num_classes, c});
  }
  take_parameters();
  eval();
}

VisionTransformerImpl::~VisionTransformerImpl() = default;

std::shared_ptr<const Layout> VisionTransformerImpl::layout() const {
  const std::lock_guard lock(mutex_);
  return layout_;
}

Schedule VisionTransformerImpl::schedule() const { return layout()->schedule(); }

Plan VisionTransformerImpl::plan() const { return layout()->plan(); }

void VisionTransformerImpl::set_schedule(const Schedule& schedule) {
  auto layout = std::make_shared<Layout>(config_, schedule);
  const std::lock_guard lock(mutex_);
  layout_ = std::move(layout);
}

CpuPath VisionTransformerImpl::cpu_path() const {
  const std::lock_guard lock(mutex_);
  return cpu_path_;
}

void VisionTransformerImpl::set_cpu_path(CpuPath path) {
  const std::lock_guard lock(mutex_);
  check_not_frozen();
  cpu_path_ = path;
  engine_.reset();
}

void VisionTransformerImpl::check_not_frozen() const {
  TORCH_CHECK(
      !frozen_, "dsm_ext.VisionTransformer: the model is frozen: it has let go of its weights");
}

bool VisionTransformerImpl::frozen() const {
  const std::lock_guard lock(mutex_);
  return frozen_;
}

void VisionTransformerImpl::freeze() {
  const c10::InferenceMode ordinary(false);
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_NOT_IMPLEMENTED(
      locked_engine() != nullptr,
      "dsm_ext.VisionTransformer: only a model on the CPU's fast path (float32, DSM_EXT_CPU not "
      "reference) can be frozen");
  frozen_ = true;
  engine_->forget_origin();
  for (auto& [name, parameter] : all_parameters_) {
    if (name != "pos_embed" && parameter.numel() > config_.embed_dim) {  // still asked for its kind
      parameter.set_data(at::empty({0}, parameter.options()));
    }
  }
#ifdef __GLIBC__
  malloc_trim(0);  // what the allocator would keep for itself
#endif
}

void VisionTransformerImpl::take_parameters() {
  const std::lock_guard lock(mutex_);
  check_not_frozen();
  all_parameters_ = named_parameters().pairs();
  engine_.reset();
}

// Null where the plain path is to run.
std::shared_ptr<const cpu::Engine> VisionTransformerImpl::engine() const {
  const std::lock_guard lock(mutex_);
  return locked_engine();
}

std::shared_ptr<const cpu::Engine> VisionTransformerImpl::locked_engine() const {
  if (frozen_) {
    TORCH_CHECK(
        pos_embed_.is_cpu() && pos_embed_.scalar_type() == at::kFloat,
        "dsm_ext.VisionTransformer: the model is frozen: it stays on the CPU, in float32");
    return engine_;
  }
  if (cpu_path_ != CpuPath::fast || !cpu::Engine::takes(all_parameters_)) {
    engine_.reset();
  } else if (engine_ == nullptr || !engine_->packed_from(all_parameters_)) {
    engine_ = std::make_shared<cpu::Engine>(config_, all_parameters_);
  }
  return engine_;
}

void VisionTransformerImpl::check_images(const at::Tensor& images) const {
  const auto& [height, width] = config_.img_size;
  TORCH_CHECK_VALUE(
      images.dim() == 4, "dsm_ext.VisionTransformer: expected images to be [B, ", config_.in_chans,
      ", ", height, ", ", width, "], got ", images.sizes());
  TORCH_CHECK_VALUE(
      images.size(1) == config_.in_chans, "dsm_ext.VisionTransformer: expected images of ",
      config_.in_chans, " channels, got ", images.size(1));
  TORCH_CHECK_VALUE(
      images.size(2) == height && images.size(3) == width,
      "dsm_ext.VisionTransformer: expected images of ", height, " x ", width, " pixels, got ",
      images.size(2), " x ", images.size(3));
  TORCH_CHECK_VALUE(
      images.device() == pos_embed_.device(), "dsm_ext.VisionTransformer: expected images on ",
      pos_embed_.device(), " like the weights, got ", images.device());
  TORCH_CHECK_TYPE(
      images.scalar_type() == pos_embed_.scalar_type(),
      "dsm_ext.VisionTransformer: expected images of ", pos_embed_.scalar_type(),
      " like the weights, got ", images.scalar_type());
  TORCH_CHECK_NOT_IMPLEMENTED(
      !(at::GradMode::is_enabled() && images.requires_grad()),
      "dsm_ext.VisionTransformer: images require grad, and the model is for inference only; pass "
      "images.detach()");
}

Sequence VisionTransformerImpl::embed(const at::Tensor& images) const {
  const int64_t b = images.size(0), c = config_.embed_dim;
  const auto patches = at::conv2d(
      images, patch_embed_->weight, patch_embed_->bias, config_.patch_size);  // [B, C, gh, gw]
  std::vector<at::Tensor> parts = {cls_token_.expand({b, 1, c})};
  if (config_.distilled) {
    parts.push_back(dist_token_.expand({b, 1, c}));
  }
  parts.push_back(patches.flatten(2).transpose(1, 2));
  Sequence sequence;
  sequence.tokens = at::cat(parts, 1).add_(pos_embed_);
  return sequence;
}

// With `whole`, all rows after the last norm; otherwise those of the prefix.
Sequence VisionTransformerImpl::run(
    const at::Tensor& images, const Layout& layout, bool whole, bool trace) const {
  auto sequence = embed(images);
  if (trace) {
    const auto [gh, gw] = config_.grid();
    sequence.source = at::arange(gh * gw, images.options().dtype(at::kInt))
                          .add_(config_.prefix())
                          .repeat({images.size(0), 1});
  }
  const auto& plan = layout.plan();
  for (int64_t i = 0; i < config_.depth; ++i) {
    if (!whole && i + 1 == config_.depth) {
      sequence.tokens = blocks_[i]->forward_prefix(sequence, layout.schedule().proportional());
    } else {
      blocks_[i]->forward(sequence, plan.blocks[i], layout);
    }
  }
  sequence.tokens =
      at::layer_norm(sequence.tokens, {config_.embed_dim}, norm_->weight, norm_->bias, config_.eps);
  return sequence;
}

at::Tensor VisionTransformerImpl::logits(const at::Tensor& tokens) const {
  auto logits = at::linear(tokens.select(1, 0), head_->weight, head_->bias);
  if (config_.distilled) {
    logits.add_(at::linear(tokens.select(1, 1), head_dist_->weight, head_dist_->bias)).div_(2);
  }
  return logits;
}

at::Tensor VisionTransformerImpl::forward(const at::Tensor& images) const {
  check_images(images);
  const Inference guard;
  if (images.size(0) == 0) {
    return at::empty({0, config_.num_classes}, images.options());
  }
  const auto layout = this->layout();
  if (const auto engine = this->engine()) {
    cpu::Outputs outputs;
    outputs.logits = at::empty({images.size(0), config_.num_classes}, images.options());
    engine->forward(images, *layout, outputs);
    return outputs.logits;
  }
  return logits(run(images, *layout, /*whole=*/false, /*trace=*/false).tokens);
}

at::Tensor VisionTransformerImpl::forward_features(const at::Tensor& images) const {
  check_images(images);
  const Inference guard;
  const auto layout = this->layout();
  if (images.size(0) == 0) {
    return at::empty({0, layout->plan().tokens_out(), config_.embed_dim}, images.options());
  }
  if (const auto engine = this->engine()) {
    cpu::Outputs outputs;
    outputs.features = at::empty(
        {images.size(0), layout->plan().tokens_out(), config_.embed_dim}, images.options());
    engine->forward(images, *layout, outputs);
    return outputs.features;
  }
  return run(images, *layout, /*whole=*/true, /*trace=*/false).tokens;
}

Trace VisionTransformerImpl::trace(const at::Tensor& images) const {
  check_images(images);
  const Inference guard;
  const auto layout = this->layout();
  const int64_t b = images.size(0), tokens = layout->plan().tokens_out();
  const auto floats = images.options().dtype(at::kFloat);
  const auto engine = this->engine();
  if (b == 0 || engine) {
    const auto [gh, gw] = config_.grid();
    Trace trace{
        at::empty({b, config_.num_classes}, images.options()),
        at::empty({b, gh * gw}, images.options().dtype(at::kInt)), at::empty({b, tokens}, floats)};
    if (b > 0) {
      const auto features = at::empty({b, tokens, config_.embed_dim}, images.options());
      engine->forward(images, *layout, {trace.logits, features, trace.source, trace.size});
    }
    return trace;
  }
  const auto sequence = run(images, *layout, /*whole=*/true, /*trace=*/true);
  const auto size = sequence.size.defined() ? sequence.size : at::ones({b, tokens}, floats);
  return {logits(sequence.tokens), sequence.source, size};
}

Profile VisionTransformerImpl::profile(const at::Tensor& images) const {
  check_images(images);
  const Inference guard;
  const auto engine = this->engine();
  TORCH_CHECK_NOT_IMPLEMENTED(
      engine != nullptr,
      "dsm_ext.VisionTransformer: only the CPU's fast path (float32, DSM_EXT_CPU not reference) is "
      "profiled");
  TORCH_CHECK_VALUE(images.size(0) > 0, "dsm_ext.VisionTransformer: expected images, got none");
  Profile profile;
  cpu::Outputs outputs;
  outputs.logits = at::empty({images.size(0), config_.num_classes}, images.options());
  engine->forward(images, *layout(), outputs, &profile);
  return profile;
}

}  // namespace dsm_ext
