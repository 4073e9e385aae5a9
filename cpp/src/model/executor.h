#pragma once

#include <memory>

#include "model/request.h"
#include "model/stage_timer.h"

namespace dsm_ext {

/// Where and how a forward runs. The model has one executor by ATen's operators, one for the CPU's
/// fast path, and one that records and replays CUDA graphs; it chooses one for each call.
class Executor {
 public:
  virtual ~Executor() = default;

  /// \param images  [B, in_chans, height, width], B > 0, checked: of the plan's image size and
  ///                device, in the dtype of the weights. Contiguous or not.
  /// \param timer   Null where nothing is measured.
  virtual Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const = 0;
};

}  // namespace dsm_ext
