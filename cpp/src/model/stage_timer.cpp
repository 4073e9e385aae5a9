#include "model/stage_timer.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "cuda/occupy_stream.h"

namespace dsm_ext {

StageTimer::StageTimer(const c10::Device& device) {
  if (device.is_cuda()) {
    cuda::occupy_stream(device);
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  }
  finish(Stage::embed);
}

void StageTimer::set_threads(int64_t threads) { threads_.resize(threads); }

void StageTimer::begin_part(size_t part) {
  parts_.resize(std::max({parts_.size(), part_ + 1, part + 1}));
  for (auto& thread : threads_) {
    for (size_t stage = 0; stage < thread.size(); ++stage) {
      parts_[part_][stage] += thread[stage];
    }
    thread.fill(0);
  }
  part_ = part;
}

void StageTimer::finish(Stage stage) {
  auto& mark = marks_.emplace_back(part_, stage, Clock::now(), std::nullopt);
  if (stream_) {
    mark.event.emplace(stream_->device_type(), c10::EventFlag::BACKEND_DEFAULT);  // has times
    mark.event->record(*stream_);
  }
}

Profile StageTimer::read() {
  begin_part(part_);
  if (stream_) {
    marks_.back().event->synchronize();
  }
  Profile profile;
  profile.seconds = parts_;
  for (size_t i = 1; i < marks_.size(); ++i) {
    const auto& mark = marks_[i];
    profile.seconds[mark.part][static_cast<size_t>(mark.stage)] +=
        seconds_between(marks_[i - 1], mark);
  }
  if (threads_.empty()) {
    profile.wall = seconds_between(marks_.front(), marks_.back());
  } else {
    profile.threads = static_cast<int64_t>(threads_.size());
    profile.wall = seconds(Clock::now() - marks_.front().time);
  }
  return profile;
}

double StageTimer::seconds_between(const Mark& begin, const Mark& end) {
  if (end.event) {
    return begin.event->elapsedTime(*end.event) / 1e3;
  }
  return seconds(end.time - begin.time);
}

}  // namespace dsm_ext
