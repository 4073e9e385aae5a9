#include "aten/merging.h"

#include <ATen/Functions.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "aten/class_attention.h"
#include "dsm_ext/ops.h"
#include "ops/metric.h"

namespace dsm_ext::aten {
namespace {

// Updates `source` after one more merge step.
at::Tensor compose(const at::Tensor& source, const at::Tensor& destination) {
  return destination.gather(1, source.to(at::kLong));
}

// The attention that the class token pays to each token, the mean over the heads [B, N].
at::Tensor importance_of(const TokenState& state, const Heads& heads, const CompiledPlan& plan) {
  return class_attention(state, heads, plan).mean(1);
}

// Matches on the current stream.
std::vector<at::Tensor> match_now(
    const TokenState& state, const Heads& heads, at::ArrayRef<PlannedStep> steps,
    const CompiledPlan& plan) {
  const int64_t prefix = plan.config().prefix();
  const auto& rule = plan.plan().rule;
  const auto tokens =
      rule.metric == MergeMetric::keys_and_tokens ? std::optional(state.tokens) : std::nullopt;
  std::vector<at::Tensor> destinations;
  at::Tensor metric;      // [B, N, width] after the first step: the metric of the merged tokens
  at::Tensor size;        // [B, N], the sizes of the metric's rows
  at::Tensor importance;  // [B, N]; undefined if the rule protects no tokens
  if (rule.protect > 0) {
    importance = importance_of(state, heads, plan);
  }
  for (const auto& step : steps) {
    std::optional<at::Tensor> order, penalty;
    if (step.regroup) {
      order = plan.window_order();
    }
    if (importance.defined()) {
      penalty = importance.mul(rule.protect * static_cast<double>(step.tokens_in));
    }
    destinations.push_back(
        metric.defined()
            ? match(metric, step.r, prefix, step.windows, order, penalty)
            : match_keys(heads.k, tokens, step.r, prefix, step.windows, order, penalty));
    if (&step == &steps.back()) {
      break;
    }
    const auto& destination = destinations.back();
    if (!metric.defined()) {
      metric = merge_metric(heads.k, tokens);
      size = state.sizes();
    }
    std::tie(metric, size) = dsm_ext::merge(metric, size, destination, step.tokens_out);
    if (importance.defined()) {  // a merged token has the attention of all its parts
      importance = at::zeros({importance.size(0), step.tokens_out}, importance.options())
                       .scatter_add_(1, destination.to(at::kLong), importance);
    }
  }
  return destinations;
}

void join(const Matched& matched) {
  if (matched.side_stream != nullptr) {
    matched.side_stream->join();
  }
}

// Merges the locations, if there are any. The sizes must still be those of the tokens before.
void merge_locations(TokenState& state, const at::Tensor& destination, int64_t tokens) {
  if (state.location.defined()) {
    const auto location = state.location.expand({destination.size(0), -1, -1});
    state.location = std::get<0>(dsm_ext::merge(location, state.sizes(), destination, tokens));
  }
}

// Merges the tokens, their sizes and locations. The caller must update `log_size` and `source`.
void merge_once(TokenState& state, const at::Tensor& destination, int64_t tokens) {
  merge_locations(state, destination, tokens);
  std::tie(state.tokens, state.size) =
      dsm_ext::merge(state.tokens, state.sizes(), destination, tokens);
}

}  // namespace

SideStream::SideStream(const c10::Stream& side)
    : main_(c10::impl::VirtualGuardImpl(side.device_type()).getStream(side.device())), side_(side) {
  c10::Event ready(side.device_type());
  ready.record(main_);
  ready.block(side_);
}

SideStream::~SideStream() {
  try {
    join();
  } catch (const c10::Error& error) {
    TORCH_WARN("dsm_ext.VisionTransformer: ", error.what_without_backtrace());
  }
}

void SideStream::join() {
  if (!joined_) {
    joined_ = true;
    c10::Event done(side_.device_type());
    done.record(side_);
    done.block(main_);
  }
}

bool matches_before_attention(const RunContext& run) {
  return run.plan.plan().rule.metric == MergeMetric::keys;
}

Matched match_steps(
    const TokenState& state, const Heads& heads, at::ArrayRef<PlannedStep> steps,
    const RunContext& run) {
  if (steps.empty()) {
    return {};
  }
  if (!run.side_stream) {
    Matched matched{match_now(state, heads, steps, run.plan), nullptr};
    run.finish(Stage::match);
    return matched;
  }
  // Under this guard, the allocator takes memory that belongs to the side stream. When a tensor is
  // freed, only later work of the side stream can get its memory, and that work runs after this
  // matching.
  auto side_stream = std::make_unique<SideStream>(*run.side_stream);
  const c10::StreamGuard guard(*run.side_stream);
  return {match_now(state, heads, steps, run.plan), std::move(side_stream)};
}

void merge_steps(
    TokenState& state, const Matched& matched, at::ArrayRef<PlannedStep> steps,
    const RunContext& run) {
  if (steps.empty()) {
    return;
  }
  join(matched);
  for (size_t i = 0; i < steps.size(); ++i) {
    merge_once(state, matched.destinations[i], steps[i].tokens_out);
    if (state.source.defined()) {
      state.source = compose(state.source, matched.destinations[i]);
    }
  }
  if (run.plan.proportional()) {
    state.log_size = log_sizes(state.size, state.tokens.scalar_type());
  }
  run.finish(Stage::merge);
}

at::Tensor merge_steps_and_normalize(
    TokenState& state, const Matched& matched, at::ArrayRef<PlannedStep> steps, const Norm& norm,
    const RunContext& run) {
  if (steps.empty()) {
    auto normed = norm(state.tokens);
    run.finish(Stage::norm2);
    return normed;
  }
  join(matched);
  at::Tensor normed;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& destination = matched.destinations[i];
    if (i + 1 < steps.size()) {
      merge_once(state, destination, steps[i].tokens_out);
    } else {
      merge_locations(state, destination, steps[i].tokens_out);
      auto merged = merge_and_normalize(
          state.tokens, state.size, destination, steps[i].tokens_out, norm.parameters());
      normed = merged.normed;
      state.tokens = merged.tokens;
      state.size = merged.size;
      state.log_size = merged.log_size;
    }
    if (state.source.defined()) {
      state.source = compose(state.source, destination);
    }
  }
  run.finish(Stage::merge);
  return normed;
}

}  // namespace dsm_ext::aten
