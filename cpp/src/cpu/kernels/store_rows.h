#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// Converts rows to another type of operands.
/// \param x    [rows, width] float32 or bfloat16.
/// \param out  [rows, width].
void store_rows(Rows x, int64_t rows, int64_t width, Rows out);

}  // namespace dsm_ext::cpu
