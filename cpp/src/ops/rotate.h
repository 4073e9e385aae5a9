#pragma once

#include <ATen/core/Tensor.h>

#include "model/rotary.h"

namespace dsm_ext {

/// The rotary position embedding of one block's tokens.
struct Rotation {
  at::Tensor location;     // [B or 1, N, 2] float32; prefix tokens have none
  at::Tensor frequencies;  // [2, H or 1, D / 2]
  RopeAxes axes;
  bool halves;  // whether channel i turns with i + D / 2, not 2 i with 2 i + 1
};

/// Turns queries and keys in place by their tokens' angles. The first `prefix` tokens keep theirs.
/// The operator is `_rotate_`; a GPU runs it as one kernel.
/// \param q  [B, H, rows, D]: the queries of the first `rows` tokens, rows <= N.
/// \param k  [B, heads, N, D].
/// \throws c10::ValueError when the location is not [B or 1, N, 2], or the frequencies do not fit.
void rotate(const at::Tensor& q, const at::Tensor& k, const Rotation& rotation, int64_t prefix);

/// Checks the arguments of `_rotate_`.
void check_rotate(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& location,
    const at::Tensor& frequencies, at::ArrayRef<double> axes, int64_t first, int64_t prefix);

}  // namespace dsm_ext
