#pragma once

#include "bounded_cache.h"
#include "cpu/plan_data.h"
#include "cpu/workspace.h"
#include "model/executor.h"

namespace dsm_ext::cpu {

/// Runs forwards on the CPU's fast path: packed weights, fused loops, planned memory.
class Executor final : public dsm_ext::Executor {
 public:
  /// Whether the fast path computes such a model, and can see changes of these parameters.
  static bool takes(const Config& config, const ModelParameters& parameters);

  /// Packs the weights.
  Executor(const Config& config, const ModelParameters& parameters);

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  /// Whether the parameters still have the values that were packed, as far as torch counts changes.
  bool packed_from(const ModelParameters& parameters) const;

  /// Frees what is kept of the parameters to see their changes.
  void forget_origin() { states_.clear(); }

 private:
  struct ParameterState {
    c10::Storage storage;  // kept alive, so that no other storage gets its address
    const void* data;
    std::vector<int64_t> sizes, strides;
    int64_t version;
  };
  struct Derived {
    std::shared_ptr<const CompiledPlan> plan;
    std::shared_ptr<const PlanData> data;
  };

  std::shared_ptr<const PlanData> data_of(const std::shared_ptr<const CompiledPlan>& plan) const;

  Config config_;
  std::vector<ParameterState> states_;
  Weights weights_;
  mutable std::mutex mutex_;  // guards the next
  mutable BoundedCache<Derived> derived_{16};
  mutable Workspaces workspaces_;
};

}  // namespace dsm_ext::cpu
