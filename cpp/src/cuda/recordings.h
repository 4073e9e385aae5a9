#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "bounded_cache.h"
#include "model/request.h"

namespace dsm_ext::cuda {

/// What two calls must have in common for the recording of one to stand for the other.
struct Call {
  std::shared_ptr<const void> plan;  // kept alive, so that no other plan gets its address
  int64_t images;
  Request request;

  bool operator==(const Call&) const = default;
};

/// Recordings of earlier calls. Not thread-safe.
template <typename Recording>
class Recordings {
 public:
  enum class Advice {
    run,     // the call is new, or cannot be recorded
    record,  // the call is like an earlier one: run it, record it, and `keep` the recording
    replay,
  };

  struct Found {
    Advice advice;
    Recording* recording = nullptr;  // to replay
  };

  /// Takes note of a call.
  /// \param key  What every recording depends on, for instance where the weights lie. When the key
  ///             changes, all recordings are forgotten.
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

  /// Keeps the recording of the call that was found last.
  /// \param recording  Null when recording failed; after three failures the call is not recorded.
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

}  // namespace dsm_ext::cuda
