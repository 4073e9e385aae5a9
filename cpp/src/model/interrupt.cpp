#include "model/interrupt.h"

#include <atomic>

namespace dsm_ext {
namespace {

using Check = void (*)();

std::atomic<Check>& check() {
  static std::atomic<Check> check{nullptr};
  return check;
}

}  // namespace

void set_interrupt_check(Check to) { check() = to; }

void InterruptCheck::operator()() {
  constexpr std::chrono::milliseconds kPeriod{50};
  const auto now = Clock::now();
  if (now - last_ < kPeriod) {
    return;
  }
  last_ = now;
  if (const Check asked = check()) {
    asked();
  }
}

}  // namespace dsm_ext
