#pragma once

#include <optional>

#include "cpu/kernels/rotation.h"
#include "cpu/kernels/rows.h"
#include "dsm_ext/config.h"

namespace dsm_ext::cpu {

/// The size of the largest tile: for how many rows, and how many of a layer's outputs, a kernel
/// computes sums at a time.
constexpr int64_t kTileRows = 96, kTileColumns = 64;

/// What a kernel does with a layer's product before it stores the result.
struct Finish {
  std::optional<Activation> activation = {};
  /// Whether the first half of a tile's columns are gates and the second half values: out =
  /// activation(gate) * value.
  bool gated = false;
  /// Added last; its rows begin `addend_stride` floats apart. May be the output itself. Null:
  /// nothing is added.
  const float* addend = nullptr;
  int64_t addend_stride = 0;
};

/// The sums of a tile of a layer's product, and what makes outputs of them.
struct Tile {
  const float* sums;  // [rows, kTileColumns]; with scales, int32 in the same memory
  const float* bias;  // [kTileColumns]
  // Of int32 sums:
  const RowScale* row_scales = nullptr;  // [rows]
  const float* column_scales = nullptr;  // [kTileColumns]
  const int32_t* column_sums = nullptr;  // [kTileColumns]: the sums of the weights
};

static_assert(kTileColumns == 2 * kPairs);

/// out = activation(sums + bias) + addend. An activation and an addend cannot be combined.
/// \param columns  Columns to write: up to kTileColumns, gated: up to half of that.
/// \param out      float32 or bfloat16.
void finish_tile(const Tile& tile, int64_t rows, int64_t columns, const Finish& finish, Rows out);

/// out = sums + bias, with the first `rotation.columns` columns turned.
void rotate_tile(
    const Tile& tile, int64_t rows, int64_t columns, const Rotation& rotation, Rows out);

}  // namespace dsm_ext::cpu
