#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "bounded_cache.h"
#include "model/request.h"

namespace dsm_ext::cuda {

/// A kind of call. The recording of a call can be replayed for every equal `Call`.
struct Call {
  std::shared_ptr<const void> plan;  // kept alive, so that no other plan gets its address
  int64_t images;
  Request request;

  bool operator==(const Call&) const = default;
};

/// The recordings of a model, by kind of call. Not thread-safe.
template <typename Recording>
class Recordings {
 public:
  enum class Advice {
    run,     // run the call: it is the first of its kind, or recording has failed too often
    record,  // run the call, record it, and `keep` the recording
    replay,  // replay the recording
  };

  struct Found {
    Advice advice;
    Recording* recording = nullptr;  // set when the advice is `replay`
  };

  /// Says what to do with a call, and remembers its kind.
  /// \param key  What every recording depends on, for instance the addresses of the weights. When
  ///             the key changes, all recordings are forgotten.
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

  /// Keeps the recording of the call that was passed to `find` last.
  /// \param recording  Null when recording failed. After three failures, `find` never advises to
  ///                   record such a call again.
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
