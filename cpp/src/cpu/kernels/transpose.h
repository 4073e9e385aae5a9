#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// out[c][r] = x[r][c].
/// \param x    [rows, columns]; rows begin `stride` floats apart.
/// \param out  [columns, rows]; rows begin `out_stride` floats apart.
void transpose(
    const float* x, int64_t rows, int64_t columns, int64_t stride, float* out, int64_t out_stride);

}  // namespace dsm_ext::cpu
