#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <chrono>
#include <optional>
#include <vector>

#include "dsm_ext/profile.h"

namespace dsm_ext {

/// Measures where the time of one forward goes, by part (before the blocks, each block, after the
/// blocks) and stage. An executor whose threads work on several stages at once measures each piece
/// of work with `time`; an executor that runs one stage after the other calls `finish` after each.
class StageTimer {
 public:
  /// Starts. On a GPU, stages are measured by events on the current stream. The stream is kept
  /// occupied first, so that the time the host needs to launch work is not counted.
  explicit StageTimer(const c10::Device& device);

  /// Says how many threads call `time`, before the first does.
  void set_threads(int64_t threads);

  /// What follows belongs to this part: 0 before the blocks, i + 1 for block i, depth + 1 after
  /// them. Not to be called while threads are in `time`.
  void begin_part(size_t part);

  /// All work since the last call of `finish`, or since the start, belongs to this stage.
  void finish(Stage stage);

  /// Runs `work` and adds its time to this stage.
  /// \param thread  The number of the calling thread, below `set_threads`.
  template <typename Work>
  void time(Stage stage, int64_t thread, const Work& work) {
    const auto begin = Clock::now();
    work();
    threads_[thread][static_cast<size_t>(stage)] += seconds(Clock::now() - begin);
  }

  /// Waits for the device.
  Profile read();

 private:
  using Clock = std::chrono::steady_clock;
  using Seconds = std::array<double, kStages>;

  struct Mark {
    size_t part;
    Stage stage;
    Clock::time_point time;
    std::optional<c10::Event> event;  // instead of the time, on a GPU
  };

  static double seconds(Clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
  }
  static double seconds_between(const Mark& begin, const Mark& end);

  std::optional<c10::Stream> stream_;  // of a GPU
  size_t part_ = 0;
  std::vector<Mark> marks_;       // the first is the start
  std::vector<Seconds> threads_;  // of this part, by thread
  std::vector<Seconds> parts_;    // of all threads, by part
};

/// Runs `work`, and measures it where there is a timer.
template <typename Work>
void timed(StageTimer* timer, Stage stage, int64_t thread, const Work& work) {
  if (timer == nullptr) {
    work();
  } else {
    timer->time(stage, thread, work);
  }
}

}  // namespace dsm_ext
