#pragma once

#include <memory>

#include "model/request.h"
#include "model/stage_timer.h"

namespace dsm_ext {

/// Runs forwards in one way. A model has one executor that calls ATen's operators, one for the
/// CPU's fast path, and one that records and replays CUDA graphs. It chooses one of them for each
/// call.
class Executor {
 public:
  virtual ~Executor() = default;

  /// \param images  [B, in_chans, height, width], B > 0, contiguous or not. The caller has checked
  ///                that they have the plan's image size and device and the weights' dtype.
  /// \param timer   Null when nothing is measured.
  virtual Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const = 0;
};

}  // namespace dsm_ext
