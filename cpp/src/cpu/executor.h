#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "bounded_cache.h"
#include "cpu/plan_data.h"
#include "cpu/workspace.h"
#include "model/executor.h"

namespace dsm_ext::cpu {

/// Runs forwards on the CPU's fast path: packed weights, fused loops, planned buffers.
class Executor final : public dsm_ext::Executor {
 public:
  /// Whether the fast path can run this model, and can see when these parameters change.
  static bool takes(const Config& config, const ModelParameters& parameters);

  /// Packs the weights for the fast path.
  Executor(const Config& config, const ModelParameters& parameters, Precision precision);

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  /// Whether the parameters still have the values that were packed. Changes that torch does not
  /// count go unnoticed.
  bool packed_from(const ModelParameters& parameters) const;

  /// The dtype of the parameters.
  at::ScalarType weights_dtype() const { return dtype_; }

  /// Frees the original parameters. Do not call `packed_from` after this.
  void forget_origin() { states_.clear(); }

 private:
  // Identifies the values of a parameter when it was packed.
  struct ParameterState {
    c10::Storage storage;  // kept alive, so that no other storage gets its address
    const void* data;
    std::vector<int64_t> sizes, strides;
    int64_t version;
  };
  // The data that was derived from a plan.
  struct Derived {
    std::shared_ptr<const CompiledPlan> plan;
    std::shared_ptr<const PlanData> data;
  };

  std::shared_ptr<const PlanData> data_of(const std::shared_ptr<const CompiledPlan>& plan) const;

  Config config_;
  at::ScalarType dtype_;
  std::vector<ParameterState> states_;
  Weights weights_;
  mutable std::mutex mutex_;  // guards derived_
  mutable BoundedCache<Derived> derived_{16};
  mutable Workspaces workspaces_;
};

}  // namespace dsm_ext::cpu
