#pragma once

#include <memory>

#include "aten/attention.h"

namespace dsm_ext::aten {

/// timm's `Attention`, `AttentionRope` and `EvaAttention` without their products of queries with
/// keys: the layers before and after them.
class SelfAttention : public Parameters {
 public:
  /// \param block  The block's index.
  SelfAttention(const Config& config, int64_t block);

  /// Projects queries for the first `rows` tokens of each image, or for all tokens when `rows` is
  /// kAllRows, and keys and values for all tokens.
  /// \param x  [B, N, C].
  Heads heads(
      const at::Tensor& x, int64_t rows, const TokenState& state, const RunContext& run) const;

  /// addend + scale * the projection of attention's output x [B, rows, H * D].
  at::Tensor added_to(
      const at::Tensor& addend, const at::Tensor& x,
      const std::shared_ptr<LayerScale>& scale) const;

 private:
  Heads projected(const at::Tensor& x, int64_t rows) const;

  int64_t channels_, heads_, kv_heads_;
  // Either `qkv_`, whose bias may be in two parameters, or three layers.
  std::shared_ptr<Linear> qkv_, q_proj_, k_proj_, v_proj_, proj_;
  at::Tensor q_bias_, v_bias_;
  std::optional<HeadNorms> norms_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace dsm_ext::aten
