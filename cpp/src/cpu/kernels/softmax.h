#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// out = exp(s - the largest s of the row), with s = score * factor + bias. When s is minus
/// infinity, out is 0, even if a whole row is minus infinity. When s is plus infinity or NaN, its
/// row becomes NaN.
/// \param scores  [rows, columns], contiguous.
/// \param bias    [columns]; minus infinity excludes a column.
/// \param out     [rows, columns]; may be `scores`.
/// \param scale   [rows], written: 1 / the sum of the row, or 0 if the sum is 0.
void exponentials(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    float* scale);

/// Multiplies row i of x by scale[i].
/// \param x    [rows, columns]; rows begin `stride` floats apart.
/// \param out  May be x.
void scale_rows(
    const float* x, int64_t stride, int64_t rows, int64_t columns, const float* scale, Rows out);

}  // namespace dsm_ext::cpu
