#pragma once

#include "aten/layers.h"

namespace dsm_ext::aten {

/// Queries, keys and values by head.
struct Heads {
  at::Tensor q;     // [B, H, rows, D]
  at::Tensor k, v;  // [B, H, N, D]
};

/// softmax(q k^T / sqrt(D) + bias) v.
/// \param bias  [B, 1, 1, N], or none. Its rows are not copied when they begin at multiples of 8.
/// \return      [B, rows, H * D]: the heads side by side.
at::Tensor attend(const Heads& heads, const std::optional<at::Tensor>& bias);

/// x [B, N, parts * H * D] as heads [parts, B, H, N, D].
at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads);

/// What blocks of all kinds do between the projection of their tokens and attention's output.
class Attention {
 public:
  /// Registers timm's `q_norm` and `k_norm` in `owner`, where the model has them.
  Attention(torch::nn::Module& owner, const Config& config);

  /// \param projected  [B, N, 3 * C]: queries, keys and values of all tokens.
  Heads split(const at::Tensor& projected) const;

  /// Queries of the first `rows` tokens of each image, keys and values of all tokens.
  /// \param projection    Gives queries, keys and values from its output `first_output` on.
  /// \param x             [B, N, C].
  Heads project_rows(
      const Linear& projection, int64_t first_output, const at::Tensor& x, int64_t rows) const;

 private:
  Heads normalized(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;

  int64_t channels_, heads_;
  std::shared_ptr<Norm> q_norm_, k_norm_;
};

}  // namespace dsm_ext::aten
