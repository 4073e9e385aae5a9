#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// The weights of a norm.
struct NormWeights {
  const float* weight = nullptr;  // [channels]; null: no norm
  const float* bias = nullptr;    // [channels]; null for an RMS norm
  float eps = 0;
  bool rms = false;
};

/// LayerNorm: out = (x - mean) / sqrt(variance + eps) * weight + bias. When the variance overflows,
/// for values beyond about 1e19, the row becomes NaN.
/// RMSNorm: out = x / sqrt(mean(x^2) + eps) * weight. When the squares overflow, finite values
/// become zeros, as in torch.
/// \param x    One row [channels].
/// \param out  One row; may be x.
void normalize_row(const float* x, int64_t channels, const NormWeights& norm, Rows out);

/// Normalizes rows of operands. Each row holds `heads` groups of `channels` values, and each group
/// is normalized by itself.
/// \param x    [rows, heads * channels] float32 or bfloat16.
/// \param out  [rows, heads * channels]; may be x. int8 rows have one head.
void normalize_operands(
    Rows x, int64_t rows, int64_t heads, int64_t channels, const NormWeights& norm, Rows out);

}  // namespace dsm_ext::cpu
