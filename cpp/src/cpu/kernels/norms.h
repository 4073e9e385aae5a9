#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// A norm of some channels.
struct NormWeights {
  const float* weight = nullptr;  // [channels]; null: no norm
  const float* bias = nullptr;    // [channels]; null for an RMS norm
  float eps = 0;
  bool rms = false;
};

/// LayerNorm: out = (x - mean) / sqrt(variance + eps) * weight + bias. Where the variance
/// overflows, for values beyond about 1e19, the row becomes NaN. RMSNorm: out = x / sqrt(mean of
/// squares + eps)
/// * weight. Where the squares overflow, finite values become zeros, as they do in torch.
/// \param x    One row [channels].
/// \param out  One row; may be x.
void normalize_row(const float* x, int64_t channels, const NormWeights& norm, Rows out);

/// Norms of operands: in each row, `heads` norms of `channels` values stand side by side.
/// \param x    [rows, heads * channels].
/// \param out  [rows, heads * channels], of the same element type; may be x.
void normalize_operands(
    Rows x, int64_t rows, int64_t heads, int64_t channels, const NormWeights& norm, Rows out);

}  // namespace dsm_ext::cpu
