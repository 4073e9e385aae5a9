#pragma once

#include <memory>
#include <optional>

#include "aten/layers.h"
#include "aten/run_context.h"
#include "aten/token_state.h"

namespace dsm_ext::aten {

/// Queries, keys and values, split by head. Keys and values may have fewer heads than queries: then
/// neighbouring heads of queries share one (grouped-query attention, arXiv 2305.13245).
struct Heads {
  at::Tensor q;     // [B, H, rows, D]
  at::Tensor k, v;  // [B, heads, N, D]

  /// The keys or values x with a copy for each head of queries: [B, H, N, D].
  at::Tensor repeated(const at::Tensor& x) const;
};

/// `dsm_ext::attend` of a block's heads.
/// \param bias  [B, 1, 1, N], or none.
/// \return      [B, rows, H * D].
at::Tensor attend(const Heads& heads, const std::optional<at::Tensor>& bias);

/// Splits x [B, N, parts * heads * D] into heads, without copying: [parts, B, heads, N, D].
at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads);

/// Splits the output of one layer for queries, keys and values [B, N, 3 * C] into heads.
Heads split_qkv(const at::Tensor& qkv, int64_t heads);

/// Splits queries [B, rows, C] and the output of one layer for keys and values [B, N, 2 * C].
Heads split_q_kv(const at::Tensor& q, const at::Tensor& kv, int64_t heads);

/// What a block does to its queries and keys before attention: norms and a rotary position
/// embedding.
class HeadNorms {
 public:
  /// Registers timm's `q_norm` and `k_norm` in `owner` when the model has these norms.
  /// \param block  The block's index.
  HeadNorms(torch::nn::Module& owner, const Config& config, int64_t block);

  /// \param heads  Just projected, and used by no one else: this call may write to them.
  Heads operator()(const Heads& heads, const TokenState& state, const RunContext& run) const;

 private:
  int64_t block_;
  std::shared_ptr<Norm> q_norm_, k_norm_;
};

}  // namespace dsm_ext::aten
