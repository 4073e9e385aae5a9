#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "aten/executor.h"
#include "bounded_cache.h"
#include "cpu/executor.h"
#include "cuda/executor.h"
#include "model/parameters.h"

namespace dsm_ext {

/// The parts of a model: its parameters, its schedule and its executors.
struct DSM_EXT_NO_EXPORT VisionTransformerImpl::State {
  State(torch::nn::Module& model, const Config& config, Schedule schedule);

  /// Checks the images and runs a forward.
  Outputs run(const at::Tensor& images, const Request& request);

  /// The schedule's plan for the images' size and device.
  std::shared_ptr<const CompiledPlan> compiled_plan(const at::Tensor& images);

  /// The executor for images on this device.
  std::shared_ptr<const Executor> executor(const at::Device& device);

  /// The CPU's fast path, packed from the current weights; null when the model does not run on it.
  /// The caller holds `mutex`.
  std::shared_ptr<const cpu::Executor> locked_fast_executor();

  /// The precision of the fast path. The caller holds `mutex`.
  Precision locked_precision() const;

  /// Checks that the model can run in this precision. The caller holds `mutex`.
  void check_precision(Precision precision) const;

  /// The caller holds `mutex`.
  void check_not_frozen() const;

  /// A weight of the model. Images must have its device and dtype.
  const at::Tensor& any_weight() const { return aten_executor->embedding().patch_weight(); }

  const Config config;
  const std::shared_ptr<aten::Executor> aten_executor;
  const std::shared_ptr<cuda::Executor> cuda_executor;

  std::mutex mutex;  // guards the members below
  Schedule schedule;
  Plan plan;  // the schedule's plan for the config's image size
  BoundedCache<std::shared_ptr<const CompiledPlan>> plans{16};
  std::shared_ptr<const ModelParameters> parameters;
  std::shared_ptr<cpu::Executor> fast_executor;  // null until the first forward on it
  CpuPath cpu_path;
  std::optional<Precision> precision;  // none: as the weights' dtype says
  bool frozen = false;
};

}  // namespace dsm_ext
