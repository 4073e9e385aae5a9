#include "aten/self_attention.h"

#include <ATen/Functions.h>

#include "aten/block.h"

namespace dsm_ext::aten {

SelfAttention::SelfAttention(const Config& config, int64_t block)
    : channels_(config.embed_dim), heads_(config.num_heads), kv_heads_(config.kv_heads(block)) {
  const int64_t c = channels_, kv = kv_heads_ * config.head_dim();
  const bool bias = config.qkv_bias, k_bias = bias && config.k_bias;
  if (config.qkv_fused) {
    qkv_ = add<Linear>(*this, "qkv", std::vector{3 * c, c}, k_bias);
    if (bias && !k_bias) {
      own("q_bias", c, q_bias_);
      own("v_bias", c, v_bias_);
    }
  } else {
    q_proj_ = add<Linear>(*this, "q_proj", std::vector{c, c}, bias);
    k_proj_ = add<Linear>(*this, "k_proj", std::vector{kv, c}, k_bias);
    v_proj_ = add<Linear>(*this, "v_proj", std::vector{kv, c}, bias);
  }
  norms_.emplace(*this, config, block);
  if (config.scale_attn_norm) {
    norm_ = add<Norm>(*this, "norm", config, c);
  }
  proj_ = add<Linear>(*this, "proj", std::vector{c, c}, config.proj_bias);
}

Heads SelfAttention::heads(
    const at::Tensor& x, int64_t rows, const TokenState& state, const RunContext& run) const {
  return (*norms_)(projected(x, rows), state, run);
}

Heads SelfAttention::projected(const at::Tensor& x, int64_t rows) const {
  const int64_t c = channels_;
  const auto queried = first_rows(x, rows);
  if (qkv_ == nullptr) {
    return {
        split_heads((*q_proj_)(queried), 1, heads_)[0], split_heads((*k_proj_)(x), 1, kv_heads_)[0],
        split_heads((*v_proj_)(x), 1, kv_heads_)[0]};
  }
  at::Tensor bias = qkv_->bias;
  if (q_bias_.defined()) {
    bias = at::cat({q_bias_, at::zeros_like(q_bias_), v_bias_});
  }
  const auto part = [&](const at::Tensor& input, int64_t first, int64_t count) {
    return linear(
        input, qkv_->weight.narrow(0, first, count),
        bias.defined() ? bias.narrow(0, first, count) : bias);
  };
  if (rows == kAllRows) {
    return split_qkv(linear(x, qkv_->weight, bias), heads_);
  }
  return split_q_kv(part(queried, 0, c), part(x, c, 2 * c), heads_);
}

at::Tensor SelfAttention::added_to(
    const at::Tensor& addend, const at::Tensor& x, const std::shared_ptr<LayerScale>& scale) const {
  return residual(addend, *proj_, normalize(norm_, x), scale);
}

}  // namespace dsm_ext::aten
