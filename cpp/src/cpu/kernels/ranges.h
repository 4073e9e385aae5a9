#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// The indices from `begin` to `end - 1`.
struct Range {
  int64_t begin, end;
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Cuts `length` into as few parts of at most `most` as possible. Returns the length of every part
/// except the last, which may be shorter.
inline int64_t even_part(int64_t length, int64_t most) {
  return divide_up(length, divide_up(length, most));
}

}  // namespace dsm_ext::cpu
