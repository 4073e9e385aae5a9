#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// The metric that tokens are matched by: the mean over the heads of each token's keys.
/// \param keys  [rows, heads * dim].
/// \param out   [rows, dim].
void key_metric(Rows keys, int64_t rows, int64_t heads, int64_t dim, float* out);

}  // namespace dsm_ext::cpu
