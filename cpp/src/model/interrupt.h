#pragma once

#include <chrono>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// Sets the function that long calls run from time to time, so that a user can interrupt them. To
/// end the call, `check` throws; the caller of the model then gets that exception and no result.
/// \param check  Runs on the thread that made the call, which may be any thread. Null (the
///               default): calls cannot be interrupted.
DSM_EXT_API void set_interrupt_check(void (*check)());

/// Runs the interrupt check for one call of the model, at most once in 50 milliseconds. In between
/// it only reads the clock.
class InterruptCheck {
 public:
  /// Call this where an exception leaves nothing half done.
  void operator()();

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point last_ = Clock::now();
};

}  // namespace dsm_ext
