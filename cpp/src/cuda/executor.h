#pragma once

#include <memory>

#include "aten/executor.h"
#include "model/parameters.h"

namespace dsm_ext::cuda {

/// Runs forwards on a GPU. A call like an earlier one is recorded as a CUDA graph, and later calls
/// replay the graph; all other calls run by ATen's operators. Calls may come from several threads
/// and on several streams. On the device, replays run one after the other, so that recordings can
/// share the memory of their intermediate results. Each recording has its own patches and outputs;
/// the weights and window orders are the model's.
class Executor final : public dsm_ext::Executor {
 public:
  /// \param aten     Runs the calls that are recorded, and those that are not.
  /// \param records  Whether calls are recorded at all.
  Executor(std::shared_ptr<const aten::Executor> aten, bool records);
  ~Executor() override;

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  bool records() const;
  void set_records(bool on);

  /// Recordings read these parameters where they lie, and are forgotten when they lie elsewhere.
  void set_parameters(std::shared_ptr<const ModelParameters> parameters);

  /// Replays that have begun end as they would have.
  void forget_recordings();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dsm_ext::cuda
