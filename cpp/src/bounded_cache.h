#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <optional>
#include <utility>

namespace dsm_ext {

/// Keeps a bounded number of entries and drops the one that was not used for longest. An entry is
/// used when it is put in and whenever `find` gives it. Its address stays the same until it is
/// taken, dropped or cleared. A search looks at the entries one by one. Not thread-safe.
template <typename Entry>
class BoundedCache {
 public:
  /// \param bound  The most entries to keep, at least 1.
  explicit BoundedCache(size_t bound) : bound_(bound) {}

  /// The first entry that the predicate accepts, or null. It counts as just used.
  template <typename Predicate>
  Entry* find(const Predicate& accepts) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), accepts);
    if (found == entries_.end()) {
      return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, found);
    return &*found;
  }

  /// Removes the first entry that the predicate accepts, and gives it to the caller.
  template <typename Predicate>
  std::optional<Entry> take(const Predicate& accepts) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), accepts);
    if (found == entries_.end()) {
      return std::nullopt;
    }
    std::optional<Entry> taken(std::move(*found));
    entries_.erase(found);
    return taken;
  }

  /// Adds an entry. When the cache is full, the entry that was not used for longest ends first.
  Entry& put(Entry entry) {
    if (entries_.size() >= bound_) {
      entries_.pop_back();
    }
    return entries_.emplace_front(std::move(entry));
  }

  void clear() { entries_.clear(); }

  // Iteration begins with the entry that was used last. It does not count as use.
  auto begin() { return entries_.begin(); }
  auto end() { return entries_.end(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }

 private:
  size_t bound_;
  std::list<Entry> entries_;  // the one used last in front
};

}  // namespace dsm_ext
