#include "dsm_ext/vision_transformer.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "model/state.h"

namespace dsm_ext {

VisionTransformerImpl::VisionTransformerImpl(Config config, Schedule schedule) {
  const c10::InferenceMode ordinary(false);  // the parameters must not be inference tensors
  config.validate();
  state_ = std::make_unique<State>(*this, config, std::move(schedule));
  take_parameters();
  eval();
}

VisionTransformerImpl::~VisionTransformerImpl() = default;

const Config& VisionTransformerImpl::config() const { return state_->config; }

Schedule VisionTransformerImpl::schedule() const {
  const std::lock_guard lock(state_->mutex);
  return state_->schedule;
}

Plan VisionTransformerImpl::plan() const {
  const std::lock_guard lock(state_->mutex);
  return state_->plan;
}

void VisionTransformerImpl::set_schedule(const Schedule& schedule) {
  auto plan = schedule.plan(state_->config);
  {
    const std::lock_guard lock(state_->mutex);
    state_->schedule = schedule;
    state_->plan = std::move(plan);
    state_->plans.clear();
  }
  state_->cuda_executor->forget_recordings();
}

CpuPath VisionTransformerImpl::cpu_path() const {
  const std::lock_guard lock(state_->mutex);
  return state_->cpu_path;
}

void VisionTransformerImpl::set_cpu_path(CpuPath path) {
  const std::lock_guard lock(state_->mutex);
  state_->check_not_frozen();
  state_->cpu_path = path;
  state_->fast_executor.reset();
}

Precision VisionTransformerImpl::precision() const {
  const std::lock_guard lock(state_->mutex);
  return state_->locked_precision();
}

std::optional<Precision> VisionTransformerImpl::chosen_precision() const {
  const std::lock_guard lock(state_->mutex);
  return state_->precision;
}

void VisionTransformerImpl::set_precision(Precision precision) {
  const std::lock_guard lock(state_->mutex);
  state_->check_not_frozen();
  state_->check_precision(precision);
  state_->precision = precision;
  state_->fast_executor.reset();
}

bool VisionTransformerImpl::cuda_graphs() const { return state_->cuda_executor->records(); }

void VisionTransformerImpl::set_cuda_graphs(bool on) { state_->cuda_executor->set_records(on); }

void VisionTransformerImpl::take_parameters() {
  auto parameters = std::make_shared<const ModelParameters>(named_parameters().pairs());
  {
    const std::lock_guard lock(state_->mutex);
    state_->check_not_frozen();
    state_->parameters = parameters;
    state_->fast_executor.reset();
  }
  state_->cuda_executor->set_parameters(std::move(parameters));
}

bool VisionTransformerImpl::frozen() const {
  const std::lock_guard lock(state_->mutex);
  return state_->frozen;
}

void VisionTransformerImpl::freeze() {
  const c10::InferenceMode ordinary(false);
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(state_->mutex);
  TORCH_CHECK_NOT_IMPLEMENTED(
      state_->locked_fast_executor() != nullptr,
      "dsm_ext.VisionTransformer: only a model on the CPU's fast path (sequential blocks, "
      "cpu_path not aten) can be frozen");
  state_->frozen = true;
  state_->fast_executor->forget_origin();
  for (auto& [name, parameter] : state_->parameters->named) {
    if (parameter.numel() > state_->config.embed_dim) {
      parameter.set_data(at::empty({0}, parameter.options()));
    } else if (parameter.storage().nbytes() > parameter.nbytes()) {
      parameter.set_data(parameter.clone());  // a view would keep the rest of its storage in memory
    }
  }
#ifdef __GLIBC__
  malloc_trim(0);  // gives the freed memory back to the operating system
#endif
}

}  // namespace dsm_ext
