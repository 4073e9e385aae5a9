#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// Consecutive indices.
struct Range {
  int64_t begin, end;
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The length of parts of at most `most`, all but the last of one length.
inline int64_t even_part(int64_t length, int64_t most) {
  return divide_up(length, divide_up(length, most));
}

}  // namespace dsm_ext::cpu
