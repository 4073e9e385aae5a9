#pragma once

#include "cpu/kernels/softmax.h"

namespace dsm_ext::cpu {

/// Whether the processor can run `exponentials_avx512`.
bool has_avx512();

/// `exponentials` for bfloat16 weights.
void exponentials_avx512(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax);

}  // namespace dsm_ext::cpu
