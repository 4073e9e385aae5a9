#pragma once

#include <cstdint>

// Loops over rows of float32, compiled for several instruction sets.

namespace dsm_ext::cpu {

/// Columns of a tile: what a product makes at a time.
constexpr int64_t kTile = 64;

enum class Activation { none, gelu };

/// out = (x - mean) / sqrt(variance + eps) * weight + bias for one row of `channels`.
void layer_norm(
    const float* x, int64_t channels, const float* weight, const float* bias, float eps,
    float* out);

/// What follows a product: out = activation(tile + bias) + addend, for `columns` <= kTile.
/// \param tile    [rows, kTile].
/// \param addend  Rows `addend_stride` apart, or null; may be `out` itself.
void finish_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, Activation activation,
    const float* addend, int64_t addend_stride, float* out, int64_t out_stride);

/// Adds the bias to each row of scores, and takes exp(score - largest of the row).
/// \param scores  [rows, columns], contiguous; overwritten.
/// \param bias    [columns]; minus infinity takes a column out.
/// \param scale   [rows], written: one over the sum of each row.
void exponentials(float* scores, int64_t rows, int64_t columns, const float* bias, float* scale);

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
