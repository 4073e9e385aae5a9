#pragma once

#include <optional>

#include "cpu/kernels/rows.h"
#include "dsm_ext/config.h"

namespace dsm_ext::cpu {

/// Columns of a tile: the outputs of a layer that one product of the kernels computes.
constexpr int64_t kTileColumns = 64;

/// What is done with the product of a layer before it is stored.
struct Finish {
  std::optional<Activation> activation = {};
  /// Whether half of a tile's columns are gates: out = activation(gate) * value.
  bool gated = false;
  /// Rows `addend_stride` apart, added last; null: nothing is added. May be the output itself.
  const float* addend = nullptr;
  int64_t addend_stride = 0;
};

/// out = activation(tile + bias) + addend. There is an activation, or an addend, or neither.
/// \param tile     [rows, kTileColumns]; gated: the gates in its first half, then the values.
/// \param columns  Of the output, up to kTileColumns; gated: up to half of that.
/// \param bias     [kTileColumns].
void finish_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
    Rows out);

}  // namespace dsm_ext::cpu
