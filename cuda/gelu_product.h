#pragma once

#include <ATen/core/Tensor.h>

namespace dsm_ext::cuda {

/// gelu(input weight^T + bias) in the exact form, as one kernel on a GPU of compute capability 9.0.
/// It sums and applies GELU in float32, and rounds once. `no_cutlass.cpp` stands in for it in
/// builds without CUTLASS.
/// \param input   [..., inputs], contiguous like all other tensors, on the current device.
/// \param weight  [outputs, inputs].
/// \param bias    [outputs], or undefined.
/// \param out     [..., outputs]. The current stream computes it.
/// \return        False where it cannot: on another GPU, in other dtypes than float16 and bfloat16,
///                and for rows that are not aligned to 16 bytes. Then out is as before.
bool gelu_product(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, at::Tensor& out);

}  // namespace dsm_ext::cuda
