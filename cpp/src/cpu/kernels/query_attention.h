#pragma once

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// The attention that one query pays to the keys of one head: softmax(q k^T / sqrt(dim) + bias).
/// \param query  [dim].
/// \param keys   [tokens, dim].
/// \param bias   [tokens].
/// \param out    [tokens].
void query_attention(
    const float* query, Rows keys, int64_t tokens, int64_t dim, const float* bias, float* out);

/// The mean of rows, each weighted by its token's size.
/// \param rows  [count, width].
/// \param size  [count], or null: all sizes are 1.
/// \param out   [width].
void mean_of_rows(Rows rows, const float* size, int64_t count, int64_t width, float* out);

}  // namespace dsm_ext::cpu
