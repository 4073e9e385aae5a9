#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <optional>
#include <utility>

namespace dsm_ext {

/// Keeps a bounded number of entries, and drops the least recently used one when it is full.
/// Putting an entry in and finding it count as use. An entry's address stays the same until the
/// entry is taken, dropped or cleared. A search looks at the entries one by one. Not thread-safe.
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
    if (found != entries_.begin()) {
      entries_.splice(entries_.begin(), entries_, found);
    }
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

  /// Adds an entry. If the cache is full, first drops the least recently used entry.
  Entry& put(Entry entry) {
    if (entries_.size() >= bound_) {
      entries_.pop_back();
    }
    return entries_.emplace_front(std::move(entry));
  }

  void clear() { entries_.clear(); }

  // Iteration begins with the most recently used entry. It does not count as use.
  auto begin() { return entries_.begin(); }
  auto end() { return entries_.end(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }

 private:
  size_t bound_;
  std::list<Entry> entries_;  // the most recently used entry comes first
};

}  // namespace dsm_ext
