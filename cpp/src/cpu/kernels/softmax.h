#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// out = exp(s - largest s of the row), where s = score * factor + bias. Minus infinity becomes 0,
/// also in a row of nothing else, as in torch. A row with another s that is not finite becomes NaN.
/// \param scores  [rows, columns], contiguous.
/// \param bias    [columns]; minus infinity takes a column out.
/// \param out     [rows, columns]; may be `scores`.
/// \param scale   [rows], written: one over the sum of each row, or 0 for a row of zeros.
void exponentials(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    float* scale);

/// out = x * scale, where row i is multiplied by scale[i].
/// \param x    Rows `stride` apart.
/// \param out  May be x.
void scale_rows(
    const float* x, int64_t stride, int64_t rows, int64_t columns, const float* scale, Rows out);

}  // namespace dsm_ext::cpu
