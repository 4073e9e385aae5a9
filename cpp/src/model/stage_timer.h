#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <chrono>
#include <optional>
#include <vector>

#include "dsm_ext/profile.h"

namespace dsm_ext {

/// Measures the time of one forward by part (before the blocks, each block, after the blocks) and
/// by stage. An executor whose threads work on several stages at once passes each piece of work to
/// `time`. An executor that runs one stage after the other calls `finish` after each stage.
class StageTimer {
 public:
  /// Starts the timer. On a GPU the timer records events on the current stream. It first keeps the
  /// stream occupied, so that it does not count the time that the host needs to launch work.
  explicit StageTimer(const c10::Device& device);

  /// Sets how many threads call `time`. Call it before the first thread does.
  void set_threads(int64_t threads);

  /// Counts later work to this part: 0 before the blocks, i + 1 for block i, depth + 1 after the
  /// blocks. Do not call it while a thread is in `time`.
  void begin_part(size_t part);

  /// Counts all work since the last call of `finish`, or since the start, to this stage.
  void finish(Stage stage);

  /// Runs `work` and adds its time to this stage.
  /// \param thread  The number of the calling thread, below `set_threads`.
  template <typename Work>
  void time(Stage stage, int64_t thread, const Work& work) {
    const auto begin = Clock::now();
    work();
    threads_[thread][static_cast<size_t>(stage)] += seconds(Clock::now() - begin);
  }

  /// Waits for the device and returns the times.
  Profile read();

 private:
  using Clock = std::chrono::steady_clock;
  using Seconds = std::array<double, kStages>;

  struct Mark {
    size_t part;
    Stage stage;
    Clock::time_point time;
    std::optional<c10::Event> event;  // on a GPU, used instead of `time`
  };

  static double seconds(Clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
  }
  static double seconds_between(const Mark& begin, const Mark& end);

  std::optional<c10::Stream> stream_;  // on a GPU, the stream that is measured
  size_t part_ = 0;
  std::vector<Mark> marks_;       // one for the start, then one for each `finish`
  std::vector<Seconds> threads_;  // the time of each thread in the current part
  std::vector<Seconds> parts_;    // the time of all threads in each part
};

/// Runs `work`, and measures it when `timer` is not null.
template <typename Work>
void timed(StageTimer* timer, Stage stage, int64_t thread, const Work& work) {
  if (timer == nullptr) {
    work();
  } else {
    timer->time(stage, thread, work);
  }
}

}  // namespace dsm_ext
