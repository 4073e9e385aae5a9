#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace dsm_ext {

// Operators of the forward that a GPU does in one kernel, registered beside the public ones under
// names with an underscore. On other devices each is a few of ATen's operators and ours; that is
// what they mean, too. The model calls them with what it has checked.

/// A norm over the last dimension.
struct NormParameters {
  at::Tensor weight, bias;  // [C]; the bias may be undefined, and is for an RMS norm
  double eps;
  bool rms;
};

/// What merging and a norm behind it give.
struct FusedMerge {
  at::Tensor tokens;    // [B, M, C]
  at::Tensor normed;    // [B, M, C]
  at::Tensor size;      // [B, M] float32
  at::Tensor log_size;  // [B, padded_bias(M)] in the tokens' dtype: what attention's scores add
};

/// \param x  [..., C].
/// \return   The same shape, contiguous.
at::Tensor normalize(const at::Tensor& x, const NormParameters& norm);

/// `merge`, then `normalize`.
/// \param x     [B, N, C].
/// \param size  [B, N] float32, or undefined: every token stands for one patch.
FusedMerge merge_and_normalize(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens,
    const NormParameters& norm);

/// `match` of the keys' mean over the heads, in float32.
/// \param keys  [B, H, N, D].
at::Tensor match_keys(
    const at::Tensor& keys, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order);

/// input weight^T + bias + addend, or gelu(input weight^T + bias), rounded once where the device
/// can.
/// \param input   [..., inputs].
/// \param weight  [outputs, inputs].
/// \param bias    [outputs], or undefined.
/// \param addend  [..., outputs], or undefined.
/// \param gelu_tanh  Whether GELU follows, by its tanh form; then there is no addend.
/// \return        [..., outputs], contiguous.
at::Tensor linear(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& addend = {}, bool gelu_tanh = false);

/// The logarithms of sizes [B, N] as attention's kernels read them.
/// \return  [B, padded_bias(N)], zero behind the first N.
at::Tensor log_sizes(const at::Tensor& size, at::ScalarType dtype);

/// The length of rows of a bias, such that each begins where many values are read at once.
constexpr int64_t padded_bias(int64_t tokens) { return (tokens + 15) / 16 * 16; }

}  // namespace dsm_ext
