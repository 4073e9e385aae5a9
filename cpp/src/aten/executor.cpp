#include "aten/executor.h"

#include <ATen/Functions.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "aten/patches.h"

namespace dsm_ext::aten {

// One forward; `run_in_order` calls its functions.
class Executor::Forward {
 public:
  Forward(
      const Executor& executor, const at::Tensor& patches, const Request& request,
      const RunContext& run)
      : executor_(executor), patches_(patches), request_(request), run_(run) {}

  void embed() {
    const auto& config = run_.plan.config();
    state_.tokens = executor_.embedding_(patches_, run_.plan);
    run_.finish(Stage::embed);
    if (run_.rope != nullptr || request_.trace) {
      state_.location = run_.plan.locations();
    }
    if (request_.traces()) {
      state_.source = at::arange(config.patches(), patches_.options().dtype(at::kInt))
                          .add_(config.prefix())
                          .repeat({patches_.size(0), 1});
    }
  }

  void block(int64_t i, int64_t rows) {
    run_.begin_part(i + 1);
    at::ArrayRef<PlannedStep> steps;
    if (rows == kAllRows) {
      steps = run_.plan.plan().blocks[i].steps;
    }
    auto run = run_;
    if (request_.attention_block == i) {
      outputs_.source = state_.source.clone();
      outputs_.size = state_.sizes();
      run.class_attention = &outputs_.class_attention;
    }
    executor_.blocks_[i]->forward(state_, steps, rows, run);
  }

  void keep(int64_t) {
    outputs_.intermediates.push_back(
        {request_.norm ? normalize(executor_.norm_, state_.tokens) : state_.tokens,
         state_.source.clone(), state_.sizes().clone()});
  }

  void finish() {
    run_.begin_part(executor_.blocks_.size() + 1);
    if (request_.logits || request_.features) {
      state_.tokens = normalize(executor_.norm_, state_.tokens);
    }
    if (request_.features) {
      outputs_.features = state_.tokens;
    }
    if (request_.logits) {
      outputs_.logits = executor_.head_->logits(state_, run_.plan.proportional());
    }
    run_.finish(Stage::head);
    if (request_.trace) {
      outputs_.source = state_.source;
      outputs_.size = state_.sizes();
      outputs_.location = state_.location.expand({state_.tokens.size(0), -1, -1}).contiguous();
    }
  }

  Outputs outputs() { return std::move(outputs_); }

 private:
  const Executor& executor_;
  const at::Tensor& patches_;
  const Request& request_;
  const RunContext& run_;
  TokenState state_;
  Outputs outputs_;
};

Executor::Executor(torch::nn::Module& model, const Config& config)
    : config_(config), embedding_(model, config) {
  const auto blocks = add<torch::nn::Module>(model, "blocks");
  for (int64_t i = 0; i < config.depth; ++i) {
    blocks_.push_back(blocks->register_module(std::to_string(i), Block::make(config, i)));
  }
  if (config.rope_type != RopeType::none) {
    rope_ = add<Rope>(model, "rope", config);
  }
  if (config.final_norm) {
    norm_ = add<Norm>(model, "norm", config, config.embed_dim);
  }
  head_.emplace(model, config);
}

Outputs Executor::run(
    const at::Tensor& images, const Request& request,
    const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const {
  if (images.is_cuda()) {
    plan->used_on(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(images.device()));
  }
  return run_patches(cut_into_patches(images, plan->config()), request, *plan, std::nullopt, timer);
}

Outputs Executor::run_patches(
    const at::Tensor& patches, const Request& request, const CompiledPlan& plan,
    std::optional<c10::Stream> side_stream, StageTimer* timer) const {
  InterruptCheck interrupt;
  const RunContext run{
      plan, timer, patches.is_cpu() ? &interrupt : nullptr, side_stream, rope_.get()};
  Forward forward(*this, patches, request, run);
  run_in_order(request, config_, forward);
  return forward.outputs();
}

}  // namespace dsm_ext::aten
