#pragma once

#include <chrono>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// Sets what long calls ask, on the thread that made them, to learn whether they are to end. Where
/// one is to end, `check` throws, and the call passes that on and gives nothing.
/// \param check  Null: nothing is asked, as at first. It may be called on any thread.
DSM_EXT_API void set_interrupt_check(void (*check)());

/// One call's turns at asking. Nothing is asked before the call has lasted a twentieth of a second,
/// nor more often than that: until then a turn only reads the clock.
class InterruptCheck {
 public:
  /// To be called where nothing would be left half done.
  void operator()();

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point last_ = Clock::now();
};

}  // namespace dsm_ext
