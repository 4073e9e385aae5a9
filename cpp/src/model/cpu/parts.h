#pragma once

#include "dsm_ext/export.h"
#include "product.h"

// The fast path's parts by themselves, for tests and benchmarks. Float32 on the CPU, unchecked.

namespace dsm_ext::cpu {

/// A linear layer with its weight packed.
class DSM_EXT_API PackedLinear {
 public:
  /// \param weight  [N, K].
  /// \param bias    [N], or none.
  PackedLinear(const at::Tensor& weight, const std::optional<at::Tensor>& bias);

  /// \return [M, N]: x weight^T + bias for x [M, K], and its exact GELU where asked for.
  at::Tensor forward(const at::Tensor& x, bool gelu) const;

 private:
  Panels panels_;
};

/// Attention of queries, keys and values side by side.
/// \param qkv   [B, N, 3, H, D].
/// \param size  [B, N], whose logarithm is added to the scores; none: zeros.
/// \return [B, N, H * D].
DSM_EXT_API at::Tensor attention(const at::Tensor& qkv, const std::optional<at::Tensor>& size);

}  // namespace dsm_ext::cpu
