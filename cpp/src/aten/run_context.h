#pragma once

#include <c10/core/Stream.h>

#include <optional>

#include "model/interrupt.h"
#include "model/stage_timer.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::aten {

/// What every layer of one forward may need beside the tokens.
struct RunContext {
  const CompiledPlan& plan;
  StageTimer* timer = nullptr;          // null where nothing is measured
  InterruptCheck* interrupt = nullptr;  // null on a GPU, where calls do not wait for the work
  std::optional<c10::Stream> side_stream = std::nullopt;  // where matching runs beside attention

  /// Ends a stage: the timer takes its time, and the call ends here when the user interrupts it.
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
