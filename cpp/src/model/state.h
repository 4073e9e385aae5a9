#pragma once

#include <memory>
#include <mutex>

#include "aten/executor.h"
#include "bounded_cache.h"
#include "cpu/executor.h"
#include "cuda/executor.h"
#include "model/parameters.h"

namespace dsm_ext {

/// What a model is made of: its parameters, its schedule, and the executors that run it.
struct VisionTransformerImpl::State {
  State(torch::nn::Module& model, const Config& config, Schedule schedule);

  /// Checks the images and runs a forward of them.
  Outputs run(const at::Tensor& images, const Request& request);

  /// The schedule's plan for the images' size and device.
  std::shared_ptr<const CompiledPlan> compiled_plan(const at::Tensor& images);

  /// Chooses where a forward of images on this device runs.
  std::shared_ptr<const Executor> executor(const at::Device& device);

  /// The CPU's fast path with the weights as they are now; null where the model does not take it.
  /// mutex is held.
  std::shared_ptr<const cpu::Executor> locked_fast_path();

  /// mutex is held.
  void check_not_frozen() const;

  /// Where images must lie, and of which dtype they must be.
  const at::Tensor& any_weight() const { return aten_path->embedding().patch_weight(); }

  const Config config;
  const std::shared_ptr<aten::Executor> aten_path;
  const std::shared_ptr<cuda::Executor> cuda_path;

  std::mutex mutex;  // guards what follows
  Schedule schedule;
  Plan plan;  // of the schedule, for the config's image size
  BoundedCache<std::shared_ptr<const CompiledPlan>> plans{16};
  std::shared_ptr<const ModelParameters> parameters;
  std::shared_ptr<cpu::Executor> fast_path;  // null until it is taken
  CpuPath cpu_path;
  bool frozen = false;
};

}  // namespace dsm_ext
