#include "dsm_ext/vision_transformer.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "attention_pool.h"
#include "block.h"
#include "cpu/engine.h"
#include "cuda/graphs.h"

namespace dsm_ext {
namespace {

// Whether an environment variable has the first of two values, which it has where it is not set.
bool environment(const char* name, const char* first, const char* second) {
  const char* value = std::getenv(name);
  if (value == nullptr || std::string_view(value) == first) {
    return true;
  }
  TORCH_CHECK_VALUE(
      std::string_view(value) == second, "dsm_ext: expected the environment variable ", name,
      " to be ", first, " or ", second, ", got ", value);
  return false;
}

}  // namespace

VisionTransformerImpl::VisionTransformerImpl(Config config, Schedule schedule)
    : config_(config),
      layout_(std::make_shared<Layout>(config, std::move(schedule))),
      cpu_path_(
          environment("DSM_EXT_CPU", "fast", "reference") ? CpuPath::fast : CpuPath::reference),
      cuda_graphs_(environment("DSM_EXT_CUDA_GRAPHS", "1", "0")),
      graphs_(std::make_unique<cuda::Graphs>()) {
  const c10::InferenceMode ordinary(false);  // the weights outlive the caller's inference mode
  const int64_t c = config_.embed_dim, classes = config_.num_classes;
  const int64_t positions = config_.patches() + (config_.no_embed_class ? 0 : config_.prefix());
  const auto options = at::TensorOptions(at::kMeta).dtype(at::kFloat);  // whatever torch's default
  for (auto& [name, tensor] : own_tokens()) {
    const bool is_positions = tensor == &pos_embed_, is_registers = tensor == &reg_token_;
    const int64_t rows = is_positions ? positions : is_registers ? config_.reg_tokens : 1;
    *tensor = register_parameter(name, at::empty({1, rows, c}, options), /*requires_grad=*/false);
  }
  const auto embed = add<torch::nn::Module>(*this, "patch_embed");
  patch_embed_ = add<Linear>(
      *embed, "proj",
      std::vector{c, config_.in_chans, config_.patch_size[0], config_.patch_size[1]},
      config_.patch_bias);
  if (config_.embed_norm) {
    embed_norm_ = add<Norm>(*embed, "norm", config_, c);
  }
  if (config_.pre_norm) {
    norm_pre_ = add<Norm>(*this, "norm_pre", config_, c);
  }
  const auto blocks = add<torch::nn::Module>(*this, "blocks");
  for (int64_t i = 0; i < config_.depth; ++i) {
    blocks_.push_back(blocks->register_module(std::to_string(i), Block::make(config_)));
  }
  if (config_.final_norm) {
    norm_ = add<Norm>(*this, "norm", config_, c);
  }
  if (config_.global_pool == Pool::map) {
    attn_pool_ = add<AttentionPool>(*this, "attn_pool", config_);
  }
  if (config_.fc_norm) {
    fc_norm_ = add<Norm>(*this, "fc_norm", config_, c);
  }
  if (classes > 0) {
    head_ = add<Linear>(*this, "head", std::vector{classes, c}, config_.head_bias);
    if (config_.distilled) {
      head_dist_ = add<Linear>(*this, "head_dist", std::vector{classes, c}, config_.head_bias);
    }
  }
  take_parameters();
  eval();
}

VisionTransformerImpl::~VisionTransformerImpl() = default;

std::vector<std::pair<const char*, at::Tensor*>> VisionTransformerImpl::own_tokens() {
  std::vector<std::pair<const char*, at::Tensor*>> tokens;
  if (config_.class_token) {
    tokens.emplace_back("cls_token", &cls_token_);
  }
  if (config_.distilled) {
    tokens.emplace_back("dist_token", &dist_token_);
  }
  if (config_.reg_tokens > 0) {
    tokens.emplace_back("reg_token", &reg_token_);
  }
  if (config_.pos_embed) {
    tokens.emplace_back("pos_embed", &pos_embed_);
  }
  return tokens;
}

std::shared_ptr<const Layout> VisionTransformerImpl::layout() const {
  const std::lock_guard lock(mutex_);
  return layout_;
}

std::shared_ptr<const Layout> VisionTransformerImpl::layout(const at::Tensor& images) const {
  const std::array<int64_t, 2> size = {images.size(2), images.size(3)};
  const std::lock_guard lock(mutex_);
  if (size == config_.img_size) {
    return layout_;
  }
  for (const auto& other : other_layouts_) {
    if (other->config().img_size == size) {
      return other;
    }
  }
  constexpr size_t kKept = 16;
  if (other_layouts_.size() == kKept) {
    other_layouts_.erase(other_layouts_.begin());
  }
  auto config = config_;
  config.img_size = size;
  return other_layouts_.emplace_back(std::make_shared<Layout>(config, layout_->schedule()));
}

Schedule VisionTransformerImpl::schedule() const { return layout()->schedule(); }

Plan VisionTransformerImpl::plan() const { return layout()->plan(); }

void VisionTransformerImpl::set_schedule(const Schedule& schedule) {
  auto layout = std::make_shared<Layout>(config_, schedule);
  {
    const std::lock_guard lock(mutex_);
    layout_ = std::move(layout);
    other_layouts_.clear();
  }
  graphs_->clear();
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

bool VisionTransformerImpl::cuda_graphs() const {
  const std::lock_guard lock(mutex_);
  return cuda_graphs_;
}

void VisionTransformerImpl::set_cuda_graphs(bool on) {
  {
    const std::lock_guard lock(mutex_);
    cuda_graphs_ = on;
  }
  graphs_->clear();
}

// All that a recording takes for granted of the weights: their values may change.
// What recordings hold for: where and how the weights lie, and how products are to be rounded.
std::vector<int64_t> VisionTransformerImpl::recordings_key() const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> where;
  where.reserve(4 * all_parameters_.size() + 2);
  where.push_back(patch_embed_->weight.device().index());
  where.push_back(
      static_cast<int64_t>(
          at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL)));
  for (const auto& [name, tensor] : all_parameters_) {
    where.push_back(reinterpret_cast<intptr_t>(tensor.const_data_ptr()));
    where.push_back(static_cast<int64_t>(tensor.scalar_type()));
    where.insert(where.end(), tensor.strides().begin(), tensor.strides().end());
  }
  return where;
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
    if (parameter.numel() > config_.embed_dim) {
      parameter.set_data(at::empty({0}, parameter.options()));
    } else if (parameter.storage().nbytes() > parameter.nbytes()) {
      parameter.set_data(parameter.clone());  // else it would keep a mapped file in memory
    }
  }
#ifdef __GLIBC__
  malloc_trim(0);  // what the allocator would keep for itself
#endif
}

void VisionTransformerImpl::take_parameters() {
  {
    const std::lock_guard lock(mutex_);
    check_not_frozen();
    all_parameters_ = named_parameters().pairs();
    parameter_shapes_.clear();
    for (const auto& [name, tensor] : all_parameters_) {
      parameter_shapes_.push_back(tensor.sizes().vec());
    }
    engine_.reset();
  }
  graphs_->clear();
}

// A parameter can be given other values from outside (`.data` in Python), and these may be of
// another shape, dtype or device than the model's.
void VisionTransformerImpl::check_parameters() const {
  const auto& first = all_parameters_.front().second;
  for (size_t i = 0; i < all_parameters_.size(); ++i) {
    const auto& [name, tensor] = all_parameters_[i];
    TORCH_CHECK_VALUE(
        tensor.sizes() == parameter_shapes_[i],
        "dsm_ext.VisionTransformer: the weights do not fit ", "the model: misshapen ", name, " ",
        tensor.sizes(), " (expected ", at::IntArrayRef(parameter_shapes_[i]), ")");
    TORCH_CHECK_TYPE(
        tensor.scalar_type() == first.scalar_type(),
        "dsm_ext.VisionTransformer: expected weights of one dtype, got ", first.scalar_type(),
        " and, for ", name, ", ", tensor.scalar_type());
    TORCH_CHECK_VALUE(
        tensor.device() == first.device(),
        "dsm_ext.VisionTransformer: expected weights on one device, got ", first.device(),
        " and, for ", name, ", ", tensor.device());
  }
}

// Null where the plain path is to run.
std::shared_ptr<const cpu::Engine> VisionTransformerImpl::engine() const {
  const std::lock_guard lock(mutex_);
  return locked_engine();
}

std::shared_ptr<const cpu::Engine> VisionTransformerImpl::locked_engine() const {
  if (frozen_) {
    TORCH_CHECK(
        patch_embed_->weight.is_cpu() && patch_embed_->weight.scalar_type() == at::kFloat,
        "dsm_ext.VisionTransformer: the model is frozen: it stays on the CPU, in float32");
    return engine_;
  }
  if (engine_ != nullptr && engine_->packed_from(all_parameters_)) {
    return engine_;
  }
  check_parameters();
  if (cpu_path_ != CpuPath::fast || !cpu::Engine::takes(config_, all_parameters_)) {
    engine_.reset();
  } else {
    engine_ = std::make_shared<cpu::Engine>(config_, all_parameters_);
  }
  return engine_;
}

}  // namespace dsm_ext
