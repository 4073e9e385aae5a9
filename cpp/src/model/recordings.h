#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../bounded_cache.h"
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
    const auto* entry = entries_.find([&](const Entry& other) { return other.call == call; });
    if (entry == nullptr) {
      entries_.put({call, nullptr, 0});
      return {Advice::run};
    }
    if (entry->recording != nullptr) {
      return {Advice::replay, entry->recording.get()};
    }
    return {entry->failures < kTries ? Advice::record : Advice::run};
  }

  /// Of the call that was found last.
  /// \param recording  Null where it failed: that is tried again twice.
  void keep(std::unique_ptr<Recording> recording) {
    auto& entry = *entries_.begin();
    entry.failures += recording == nullptr ? 1 : 0;
    entry.recording = std::move(recording);
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
  static constexpr size_t kBound = 16;

  struct Entry {
    Call call;
    std::unique_ptr<Recording> recording;
    int failures;
  };

  std::vector<int64_t> key_;
  BoundedCache<Entry> entries_{kBound};
};

}  // namespace dsm_ext
