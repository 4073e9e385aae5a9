#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace dsm_ext {

// Operators that a GPU runs as one kernel. On other devices each is composed of ATen's operators
// and the public ones, and that composition is its definition. Their names in `torch.ops.dsm_ext`
// begin with an underscore. They check few arguments, because only the model calls them.

/// A norm over the last dimension.
struct NormParameters {
  at::Tensor weight, bias;  // [C]; an RMS norm has no bias, and a layer norm may have none
  double eps;
  bool rms;
};

/// The results of `merge_and_normalize`.
struct FusedMerge {
  at::Tensor tokens;    // [B, M, C]
  at::Tensor normed;    // [B, M, C]
  at::Tensor size;      // [B, M] float32
  at::Tensor log_size;  // [B, padded_bias(M)] in the tokens' dtype: a bias of attention's scores
};

/// \param x  [..., C].
/// \return   The same shape, contiguous.
at::Tensor normalize(const at::Tensor& x, const NormParameters& norm);

/// `merge`, then `normalize`.
/// \param x     [B, N, C].
/// \param size  [B, N] float32, or undefined when every token stands for one patch.
FusedMerge merge_and_normalize(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens,
    const NormParameters& norm);

/// `match` of a block's `merge_metric`.
/// \param keys    [B, H, N, D].
/// \param tokens  [B, N, C], or none.
at::Tensor match_keys(
    const at::Tensor& keys, const std::optional<at::Tensor>& tokens, int64_t r, int64_t prefix,
    at::IntArrayRef windows, const std::optional<at::Tensor>& order,
    const std::optional<at::Tensor>& penalty);

/// The attention that one query of each image pays to the tokens: softmax(q k^T / sqrt(D) + bias).
/// No device has a kernel for it yet.
/// \param q     [B, H, 1, D].
/// \param k     [B, H, N, D].
/// \param bias  [B, 1, 1, N], or none.
/// \return      [B, H, N] float32.
at::Tensor query_attention(
    const at::Tensor& q, const at::Tensor& k, const std::optional<at::Tensor>& bias);

/// A linear layer: input weight^T + bias + addend. cuBLASLt rounds the result once; other
/// implementations round after each operator.
/// \param input   [..., inputs].
/// \param weight  [outputs, inputs].
/// \param bias    [outputs], or undefined.
/// \param addend  [..., outputs], or undefined.
/// \return        [..., outputs], contiguous.
at::Tensor linear(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& addend = {});

/// gelu(input weight^T + bias), in the exact form or the tanh form. The operator is `_linear`,
/// where `gelu` is what at::gelu calls `approximate`: "none" or "tanh". Half precision on a GPU
/// rounds the result once where one kernel computes it: the tanh form by cuBLASLt, the exact form
/// by CUTLASS.
at::Tensor linear_gelu(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, bool tanh);

/// Attention: softmax(q k^T / sqrt(D) + bias) v.
/// \param q     [B, H, rows, D].
/// \param k, v  [B, H, N, D].
/// \param bias  [B, 1, 1, N], or none. Torch copies it unless its rows begin at multiples of 8
///              elements.
/// \return      [B, rows, H * D]: the heads side by side.
at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias);

/// `attend` by ATen's operators, for shapes that the kernel does not take.
at::Tensor composed_attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias);

/// The logarithms of sizes [B, N], padded as attention's kernels read them.
/// \return  [B, padded_bias(N)]; the padding is zero.
at::Tensor log_sizes(const at::Tensor& size, at::ScalarType dtype);

/// The length of a bias's rows: a multiple of 16, so that every row is aligned for wide reads.
constexpr int64_t padded_bias(int64_t tokens) { return (tokens + 15) / 16 * 16; }

}  // namespace dsm_ext
