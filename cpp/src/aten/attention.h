#pragma once

#include <memory>
#include <optional>

#include "aten/layers.h"

namespace dsm_ext::aten {

/// Queries, keys and values, split by head.
struct Heads {
  at::Tensor q;     // [B, H, rows, D]
  at::Tensor k, v;  // [B, H, N, D]
};

/// `dsm_ext::attend` of a block's heads.
/// \param bias  [B, 1, 1, N], or none.
/// \return      [B, rows, H * D].
at::Tensor attend(const Heads& heads, const std::optional<at::Tensor>& bias);

/// Splits x [B, N, parts * H * D] into heads, without copying: [parts, B, H, N, D].
at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads);

/// Makes the queries, keys and values of a block, for blocks of all kinds.
class Attention {
 public:
  /// Registers timm's `q_norm` and `k_norm` in `owner` when the model has these norms.
  Attention(torch::nn::Module& owner, const Config& config);

  /// Splits projected tokens into heads, and normalizes queries and keys.
  /// \param projected  [B, N, 3 * C]: queries, keys and values of all tokens.
  Heads split(const at::Tensor& projected) const;

  /// Projects queries for the first `rows` tokens of each image, and keys and values for all
  /// tokens.
  /// \param projection    A layer with 3 * C outputs for queries, keys and values.
  /// \param first_output  The first of these outputs.
  /// \param x             [B, N, C].
  Heads project_rows(
      const Linear& projection, int64_t first_output, const at::Tensor& x, int64_t rows) const;

 private:
  Heads normalized(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;

  int64_t channels_, heads_;
  std::shared_ptr<Norm> q_norm_, k_norm_;
};

}  // namespace dsm_ext::aten
