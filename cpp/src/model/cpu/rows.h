#pragma once

#include <cstdint>
#include <optional>

#include "dsm_ext/config.h"

// Loops over rows of float32, compiled for several instruction sets.

namespace dsm_ext::cpu {

/// Columns of a tile: what a product makes at a time.
constexpr int64_t kTile = 64;

/// out = (x - mean) / sqrt(variance + eps) * weight + bias for one row of `channels`. NaN where the
/// variance is not finite, which it is not for values beyond about 1e19.
void layer_norm(
    const float* x, int64_t channels, const float* weight, const float* bias, float eps,
    float* out);

/// out = x / sqrt(mean of squares + eps) * weight for one row of `channels`. Where the squares
/// overflow, finite values become zeros, as they do in torch.
void rms_norm(const float* x, int64_t channels, const float* weight, float eps, float* out);

/// What follows a product.
struct Finish {
  std::optional<Activation> activation = {};
  /// Whether half of a tile's columns are gates: out = activation(gate) * value.
  bool gated = false;
  const float* addend = nullptr;  // rows `addend_stride` apart, added at last; may be `out` itself
  int64_t addend_stride = 0;
};

/// out = activation(tile + bias) + addend, for `columns` of the output. There is either an
/// activation or an addend, or neither.
/// \param tile     [rows, kTile]; gated: kTile / 2 gates, then as many values.
/// \param columns  Up to kTile; gated: up to half of it.
void finish_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
    float* out, int64_t out_stride);

/// Takes exp(s - largest s of the row), where s = score * factor + bias. Minus infinity becomes 0,
/// in a row of nothing else, too, as in torch; a row with another s that is not finite becomes NaN.
/// \param scores  [rows, columns], contiguous; overwritten.
/// \param bias    [columns]; minus infinity takes a column out.
/// \param scale   [rows], written: one over the sum of each row, or 0 for a row of zeros.
void exponentials(
    float* scores, int64_t rows, int64_t columns, float factor, const float* bias, float* scale);

/// Row i is multiplied by scale[i].
void scale_rows(float* x, int64_t rows, int64_t columns, int64_t stride, const float* scale);

/// The mean over the heads of each row of keys.
/// \param keys  [rows, heads, dim], rows `stride` apart.
/// \param out   [rows, dim].
void mean_of_heads(
    const float* keys, int64_t stride, int64_t rows, int64_t heads, int64_t dim, float* out);

/// out[c][r] = x[r][c].
void transpose(
    const float* x, int64_t rows, int64_t columns, int64_t stride, float* out, int64_t out_stride);

}  // namespace dsm_ext::cpu
