#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <mutex>
#include <vector>

#include "dsm_ext/schedule.h"
#include "model/rotary.h"

namespace dsm_ext {

/// A schedule's plan for one image size, with the tensors that executors on one device read. It
/// does not change after it is made, so several threads may use it.
class CompiledPlan {
 public:
  /// \param config  The model's config with the size of the images to run.
  CompiledPlan(const Config& config, const Schedule& schedule, const at::Device& device);

  const Config& config() const { return config_; }
  const Plan& plan() const { return plan_; }
  const at::Device& device() const { return device_; }

  /// Whether attention adds the log size of each key to the key's scores.
  bool proportional() const { return proportional_; }

  /// [gh * gw] int32 on the device: the patch at each place of the window-major order. Undefined
  /// when no step is local.
  const at::Tensor& window_order() const { return window_order_; }

  /// `initial_locations` with a batch dimension: [1, N, 2] float32 on the device.
  const at::Tensor& locations() const { return locations_; }

  /// `rope_frequencies` on the device. Undefined when the model has no rotary embedding or learns
  /// its frequencies.
  const at::Tensor& frequencies() const { return frequencies_; }
  const RopeAxes& axes() const { return axes_; }

  /// Tells the allocator that work on this stream reads the plan's tensors. When the plan is
  /// deleted, the allocator keeps the memory until the work of the stream up to then has finished.
  void used_on(const c10::Stream& stream) const;

 private:
  Config config_;
  Plan plan_;
  at::Device device_;
  bool proportional_;
  at::Tensor window_order_, locations_, frequencies_;
  RopeAxes axes_;
  mutable std::mutex mutex_;
  mutable std::vector<c10::Stream> streams_;  // guarded by mutex_
};

}  // namespace dsm_ext
