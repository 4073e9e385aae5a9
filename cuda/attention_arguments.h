#pragma once

#include <cstdint>

namespace dsm_ext::cuda {

/// A tensor of heads in memory: element [image, head, row, d] is at image * strides.image + head *
/// strides.head + row * strides.row + d.
struct HeadStrides {
  int64_t image, head, row;
};

/// What the attention kernel computes: softmax(q k^T * scale + bias) v. Values have 16 bits. Rows
/// of q, k and v begin at multiples of 16 bytes.
struct AttentionArguments {
  const uint16_t *q, *k, *v;  // [B, H, rows, D], [B, H, N, D], [B, H, N, D]
  HeadStrides q_strides, k_strides, v_strides;
  const void* bias;     // [B, N], or null
  int64_t bias_stride;  // elements between the biases of two images
  bool bias_float32;    // else the bias has the dtype of q
  float scale;
  int32_t heads, rows, tokens, dim;
  int32_t splits;  // blocks of threads that share one head of one image
  uint16_t* out;   // [B, rows, H, D], contiguous
};

}  // namespace dsm_ext::cuda
