#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "pass.h"

namespace dsm_ext {

/// What two calls must have in common for a recording of the one to stand for the other.
struct Call {
  std::shared_ptr<const void> layout;  // which; kept, so that its address is not given to another
  int64_t images;
  Wanted wanted;

  bool operator==(const Call&) const = default;
};

/// Recordings of calls that were seen before, for what holds now. Not thread-safe.
template <typename Recording>
class Recordings {
 public:
  enum class Advice {
    run,     // seen for the first time, or cannot be recorded
    record,  // seen for the second time: run it, record it, `keep` it
    replay,
  };

  struct Found {
    Advice advice;
    Recording* recording = nullptr;  // to replay
  };

  /// Takes note of a call.
  /// \param key  What all recordings hold for, such as where the weights are: when that has
  ///             changed, none is right any more.
  Found find(const Call& call, const std::vector<int64_t>& key) {
    if (key != key_) {
      entries_.clear();
      key_ = key;
    }
    const auto found = std::find_if(
        entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.call == call; });
    if (found == entries_.end()) {
      constexpr size_t kKept = 16;
      if (entries_.size() == kKept) {
        entries_.erase(entries_.begin());
      }
      entries_.push_back({call, nullptr, 0});
      return {Advice::run};
    }
    std::rotate(found, found + 1, entries_.end());  // the one not seen for longest goes first
    const auto& entry = entries_.back();
    if (entry.recording != nullptr) {
      return {Advice::replay, entry.recording.get()};
    }
    return {entry.failures < kTries ? Advice::record : Advice::run};
  }

  /// Of the call that was found last.
  /// \param recording  Null where it failed: that is tried again twice.
  void keep(std::unique_ptr<Recording> recording) {
    entries_.back().failures += recording == nullptr ? 1 : 0;
    entries_.back().recording = std::move(recording);
  }

  /// Whether there is any recording.
  bool any() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
      return entry.recording != nullptr;
    });
  }

  void clear() { entries_.clear(); }

 private:
  static constexpr int kTries = 3;

  struct Entry {
    Call call;
    std::unique_ptr<Recording> recording;
    int failures;
  };

  std::vector<int64_t> key_;
  std::vector<Entry> entries_;  // the one seen last at the end
};

}  // namespace dsm_ext
