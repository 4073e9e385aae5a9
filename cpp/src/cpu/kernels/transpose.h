#pragma once

#include <cstddef>
#include <cstdint>

namespace dsm_ext::cpu {

/// out[c][r] = x[r][c], for words of four bytes: floats, or groups of smaller values.
/// \param x    [rows, columns] words; rows begin `stride` bytes apart.
/// \param out  [columns, rows] words; rows begin `out_stride` words apart.
void transpose(
    const std::byte* x, int64_t rows, int64_t columns, int64_t stride, std::byte* out,
    int64_t out_stride);

}  // namespace dsm_ext::cpu
