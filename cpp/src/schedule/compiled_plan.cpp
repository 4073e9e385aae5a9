#include "schedule/compiled_plan.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace dsm_ext {

CompiledPlan::CompiledPlan(const Config& config, const Schedule& schedule, const at::Device& device)
    : config_(config),
      plan_(schedule.plan(config)),
      device_(device),
      proportional_(schedule.proportional()),
      locations_(initial_locations(config).unsqueeze(0).to(device)) {
  if (!plan_.window_order.empty()) {
    window_order_ = at::tensor(plan_.window_order, at::kInt).to(device);
  }
  if (config.rope_type != RopeType::none) {
    axes_ = rope_axes(config);
    if (config.rope_type != RopeType::mixed) {
      frequencies_ = rope_frequencies(config).to(device);
    }
  }
}

void CompiledPlan::used_on(const c10::Stream& stream) const {
  const std::lock_guard lock(mutex_);
  if (std::find(streams_.begin(), streams_.end(), stream) == streams_.end()) {
    streams_.push_back(stream);
    for (const auto& tensor : {window_order_, locations_, frequencies_}) {
      if (tensor.defined()) {
        tensor.record_stream(stream);
      }
    }
  }
}

}  // namespace dsm_ext
