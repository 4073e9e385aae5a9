#pragma once

#include <cstdint>
#include <type_traits>

namespace dsm_ext::cuda {

constexpr int kPacked = 4;     // channels that a lane moves at once, when C is a multiple of them
constexpr int kMostSteps = 8;  // packs of a row that a lane holds at most
constexpr int kRowWarps = 8;   // warps of a block, each of which owns a row

/// Blocks that have a warp for each of `rows` rows.
constexpr int64_t row_blocks(int64_t rows) { return (rows + kRowWarps - 1) / kRowWarps; }

/// Blocks that a multiprocessor holds at once: as many as the registers of a row allow.
constexpr int row_blocks_at_once(int steps) { return steps <= 3 ? 5 : steps <= 4 ? 4 : 3; }

/// Chooses the template arguments kPack and kSteps of a kernel that holds a row in registers, and
/// calls f<kPack, kSteps>() with them: the fewest registers that hold the row, or the most when the
/// row is too long for all.
/// \param channels  C of the row.
template <typename F>
void with_row_shape(int64_t channels, const F& f) {
  if (channels % kPacked != 0) {
    return f.template operator()<1, kMostSteps>();
  }
  const int64_t steps = (channels + 32 * kPacked - 1) / (32 * kPacked);
  return steps <= 2   ? f.template operator()<kPacked, 2>()
         : steps <= 3 ? f.template operator()<kPacked, 3>()
         : steps <= 4 ? f.template operator()<kPacked, 4>()
         : steps <= 6 ? f.template operator()<kPacked, 6>()
                      : f.template operator()<kPacked, kMostSteps>();
}

}  // namespace dsm_ext::cuda
