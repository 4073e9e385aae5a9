#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// Writes the metric `MergeMetric::keys`: for each token the mean of its keys over the heads.
/// \param keys  [rows, heads * dim].
/// \param out   [rows, dim].
void key_metric(Rows keys, int64_t rows, int64_t heads, int64_t dim, float* out);

}  // namespace dsm_ext::cpu
