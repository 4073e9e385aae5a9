#include "stopwatch.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "cuda/hold.h"

namespace dsm_ext {

Stopwatch::Stopwatch(const c10::Device& device) {
  if (device.is_cuda()) {
    cuda::hold(device);
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  }
  mark(Stage::embed);
}

void Stopwatch::mark(Stage stage) {
  auto& mark = marks_.emplace_back(part_, stage, std::chrono::steady_clock::now(), std::nullopt);
  if (stream_) {
    mark.event.emplace(stream_->device_type(), c10::EventFlag::BACKEND_DEFAULT);  // with times
    mark.event->record(*stream_);
  }
}

Profile Stopwatch::read() const {
  if (stream_) {
    marks_.back().event->synchronize();
  }
  Profile profile;
  profile.seconds.resize(part_ + 1);
  for (size_t i = 1; i < marks_.size(); ++i) {
    const auto& mark = marks_[i];
    profile.seconds[mark.part][static_cast<size_t>(mark.stage)] +=
        seconds_between(marks_[i - 1], mark);
  }
  profile.wall = seconds_between(marks_.front(), marks_.back());
  return profile;
}

double Stopwatch::seconds_between(const Mark& begin, const Mark& end) {
  if (end.event) {
    return begin.event->elapsedTime(*end.event) / 1e3;
  }
  return std::chrono::duration<double>(end.time - begin.time).count();
}

}  // namespace dsm_ext
