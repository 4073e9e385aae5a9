#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <optional>

#include "model/interrupt.h"
#include "model/stage_timer.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::aten {

class Rope;

/// What the layers of one forward need in addition to the tokens.
struct RunContext {
  const CompiledPlan& plan;
  StageTimer* timer = nullptr;          // null when nothing is measured
  InterruptCheck* interrupt = nullptr;  // null on a GPU, because a call ends before its work
  std::optional<c10::Stream> side_stream = std::nullopt;  // for matching, if there is one
  const Rope* rope = nullptr;             // the model's rotary embedding; null if it has none
  at::Tensor* class_attention = nullptr;  // where a block writes it, if it is wanted of that block

  /// Ends a stage: stops its time, and throws when the user has interrupted the call.
  void finish(Stage stage) const {
    if (timer != nullptr) {
      timer->finish(stage);
    }
    if (interrupt != nullptr) {
      (*interrupt)();
    }
  }

  void begin_part(size_t part) const {
    if (timer != nullptr) {
      timer->begin_part(part);
    }
  }
};

}  // namespace dsm_ext::aten
