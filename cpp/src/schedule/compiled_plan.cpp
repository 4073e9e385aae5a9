#include "schedule/compiled_plan.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace dsm_ext {

CompiledPlan::CompiledPlan(const Config& config, const Schedule& schedule, const at::Device& device)
    : config_(config),
      plan_(schedule.plan(config)),
      device_(device),
      proportional_(schedule.proportional()) {
  if (!plan_.window_order.empty()) {
    window_order_ = at::tensor(plan_.window_order, at::kInt).to(device);
  }
}

void CompiledPlan::used_on(const c10::Stream& stream) const {
  if (!window_order_.defined()) {
    return;
  }
  const std::lock_guard lock(mutex_);
  if (std::find(streams_.begin(), streams_.end(), stream) == streams_.end()) {
    streams_.push_back(stream);
    window_order_.record_stream(stream);
  }
}

}  // namespace dsm_ext
