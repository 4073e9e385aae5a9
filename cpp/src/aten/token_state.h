#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dsm_ext::aten {

/// The tokens between two blocks, and all that merging changes with them.
struct TokenState {
  at::Tensor tokens;    // [B, N, C]
  at::Tensor size;      // [B, N] float32; undefined while every token stands for one patch
  at::Tensor log_size;  // as `dsm_ext::log_sizes` gives it; undefined while `size` is
  at::Tensor source;    // [B, gh * gw] int32; undefined where it is not asked for

  /// [B, N] float32: `size`, or ones while it is undefined.
  at::Tensor sizes() const;

  /// What the sizes add to attention's scores: [B, 1, 1, N] in the dtype of the tokens, or nothing.
  std::optional<at::Tensor> bias(bool proportional) const;
};

}  // namespace dsm_ext::aten
