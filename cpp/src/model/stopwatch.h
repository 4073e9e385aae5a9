#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <chrono>
#include <optional>
#include <vector>

#include "dsm_ext/profile.h"

namespace dsm_ext {

/// Times a forward by operators, stage after stage: on the CPU by this thread's clock, on a GPU by
/// events on the current stream, which is kept busy meanwhile so that the host's time is not in it.
class Stopwatch {
 public:
  /// Starts.
  explicit Stopwatch(const c10::Device& device);

  /// What has been done since the last mark, or put on the stream, was this stage.
  void mark(Stage stage);

  /// What follows belongs to the next part: the next block, or what comes behind them.
  void begin_part() { ++part_; }

  /// Waits for the device. The wall time is from the start to the last mark.
  Profile read() const;

 private:
  struct Mark {
    size_t part;
    Stage stage;
    std::chrono::steady_clock::time_point time;
    std::optional<c10::Event> event;  // instead of the time, on a GPU
  };

  static double seconds_between(const Mark& begin, const Mark& end);

  std::optional<c10::Stream> stream_;  // of a GPU
  size_t part_ = 0;
  std::vector<Mark> marks_;  // the first is the start
};

}  // namespace dsm_ext
