#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dsm_ext::aten {

/// The tokens between two blocks, and everything else that merging changes.
struct TokenState {
  at::Tensor tokens;    // [B, N, C]
  at::Tensor size;      // [B, N] float32; undefined while every token stands for one patch
  at::Tensor log_size;  // `log_sizes(size)`, which pads its rows; undefined while `size` is
  at::Tensor source;    // [B, gh * gw] int32; undefined if the request does not need it
  // [B or 1, N, 2] float32, (row, column) in patches; undefined if nothing needs it.
  at::Tensor location;

  /// [B, N] float32: `size`, or ones while it is undefined.
  at::Tensor sizes() const;

  /// The bias that attention adds to its scores: [B, 1, 1, N] in the dtype of the tokens, or none.
  std::optional<at::Tensor> bias(bool proportional) const;
};

}  // namespace dsm_ext::aten
