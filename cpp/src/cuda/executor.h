#pragma once

#include <memory>

#include "aten/executor.h"
#include "model/parameters.h"

namespace dsm_ext::cuda {

/// Runs forwards on a GPU. It records the second call of a kind as a CUDA graph, and replays the
/// graph for later calls of that kind. All other calls run by ATen's operators. Calls may come from
/// several threads and on several streams. On the device, replays run one after the other, so that
/// recordings can share the memory of their intermediate results. Each recording has its own
/// patches and outputs, and reads the model's weights and window orders in place.
class Executor final : public dsm_ext::Executor {
 public:
  /// \param aten     Runs each forward that is captured or that is not recorded.
  /// \param records  Whether to record calls at all.
  Executor(std::shared_ptr<const aten::Executor> aten, bool records);
  ~Executor() override;

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  bool records() const;
  void set_records(bool on);

  /// Sets the parameters whose memory the recordings read, and forgets all recordings. Recordings
  /// are also forgotten when this memory changes later.
  void set_parameters(std::shared_ptr<const ModelParameters> parameters);

  /// Replays that have begun still finish.
  void forget_recordings();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dsm_ext::cuda
