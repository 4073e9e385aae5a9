#include "merging.h"

#include <ATen/Functions.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "../ops/metric.h"
#include "dsm_ext/ops.h"

namespace dsm_ext {
namespace {

at::Tensor compose(const at::Tensor& source, const at::Tensor& destination) {
  return destination.gather(1, source.to(at::kLong));
}

std::vector<at::Tensor> match_here(
    const Sequence& sequence, const at::Tensor& keys, const PlannedBlock& plan,
    const Layout& layout) {
  const int64_t prefix = layout.config().prefix();
  std::vector<at::Tensor> destinations;
  at::Tensor metric;  // [B, N, D]; the keys' own before the first step
  at::Tensor size;    // [B, N], of the metric's rows
  for (const auto& step : plan.steps) {
    std::optional<at::Tensor> order;
    if (step.regroup) {
      order = layout.window_order(keys.device());
    }
    destinations.push_back(
        metric.defined() ? match(metric, step.r, prefix, step.windows, order)
                         : match_keys(keys, step.r, prefix, step.windows, order));
    if (&step != &plan.steps.back()) {
      if (!metric.defined()) {
        metric = key_metric(keys);
        size = sequence.sizes();
      }
      std::tie(metric, size) = merge(metric, size, destinations.back(), step.tokens_out);
    }
  }
  return destinations;
}

}  // namespace

Beside::Beside(const c10::Stream& side)
    : main_(c10::impl::VirtualGuardImpl(side.device_type()).getStream(side.device())), side_(side) {
  c10::Event ready(side.device_type());
  ready.record(main_);
  ready.block(side_);
}

Beside::~Beside() {
  try {
    join();
  } catch (const c10::Error& error) {
    TORCH_WARN("dsm_ext.VisionTransformer: ", error.what_without_backtrace());
  }
}

void Beside::join() {
  if (!joined_) {
    joined_ = true;
    c10::Event done(side_.device_type());
    done.record(side_);
    done.block(main_);
  }
}

Matched match_steps(
    const Sequence& sequence, const at::Tensor& keys, const PlannedBlock& plan,
    const Layout& layout) {
  if (plan.steps.empty()) {
    return {};
  }
  if (!sequence.side) {
    Matched matched{match_here(sequence, keys, plan, layout), nullptr};
    sequence.mark(Stage::match);
    return matched;
  }
  // What it allocates comes from the side stream's memory, which it waits for the next time, too.
  auto beside = std::make_unique<Beside>(*sequence.side);
  const c10::StreamGuard guard(*sequence.side);
  return {match_here(sequence, keys, plan, layout), std::move(beside)};
}

at::Tensor merge_steps(
    Sequence& sequence, const Matched& matched, const PlannedBlock& plan, const Layout& layout,
    const Norm* norm) {
  if (plan.steps.empty()) {
    if (norm == nullptr) {
      return {};
    }
    auto normed = (*norm)(sequence.tokens);
    sequence.mark(Stage::norm2);
    return normed;
  }
  if (matched.beside != nullptr) {
    matched.beside->join();
  }
  at::Tensor normed;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const auto& destination = matched.destinations[i];
    const int64_t tokens = plan.steps[i].tokens_out;
    if (norm != nullptr && i + 1 == plan.steps.size()) {
      auto merged = merge_and_normalize(
          sequence.tokens, sequence.size, destination, tokens, norm->parameters());
      normed = merged.normed;
      sequence.tokens = merged.tokens;
      sequence.size = merged.size;
      sequence.log_size = merged.log_size;
    } else {
      std::tie(sequence.tokens, sequence.size) =
          merge(sequence.tokens, sequence.sizes(), destination, tokens);
    }
    if (sequence.source.defined()) {
      sequence.source = compose(sequence.source, destination);
    }
  }
  if (norm == nullptr && layout.schedule().proportional()) {
    sequence.log_size = log_sizes(sequence.size, sequence.tokens.scalar_type());
  }
  sequence.mark(Stage::merge);
  return normed;
}

}  // namespace dsm_ext
