#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// out[c][r] = x[r][c].
void transpose(
    const float* x, int64_t rows, int64_t columns, int64_t stride, float* out, int64_t out_stride);

}  // namespace dsm_ext::cpu
