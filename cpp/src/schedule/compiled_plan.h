#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <mutex>
#include <vector>

#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// A schedule's plan for one image size, with what executors on one device read of it. It does not
/// change; executors derive from it what they alone need.
class CompiledPlan {
 public:
  /// \param config  The model's, with the image size at hand.
  CompiledPlan(const Config& config, const Schedule& schedule, const at::Device& device);

  const Config& config() const { return config_; }
  const Plan& plan() const { return plan_; }
  const at::Device& device() const { return device_; }

  /// Whether attention adds the logarithm of a key's size to its scores.
  bool proportional() const { return proportional_; }

  /// [gh * gw] int32 on the device: the patch at each window-major place. Undefined where the
  /// schedule has no local step.
  const at::Tensor& window_order() const { return window_order_; }

  /// Says that work on this stream reads the window order: when the plan goes, the allocator keeps
  /// that memory until this work is done.
  void used_on(const c10::Stream& stream) const;

 private:
  Config config_;
  Plan plan_;
  at::Device device_;
  bool proportional_;
  at::Tensor window_order_;
  mutable std::mutex mutex_;
  mutable std::vector<c10::Stream> streams_;  // guarded by mutex_
};

}  // namespace dsm_ext
