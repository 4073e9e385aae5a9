#include "aten/attention_pool.h"

#include "aten/attention.h"

namespace dsm_ext::aten {

AttentionPool::AttentionPool(const Config& config) : heads_(config.pool_heads()) {
  const int64_t c = config.embed_dim;
  own("latent", {1, 1, c}, latent_);
  q_ = add<Linear>(*this, "q", std::vector{c, c}, true);
  kv_ = add<Linear>(*this, "kv", std::vector{2 * c, c}, true);
  proj_ = add<Linear>(*this, "proj", std::vector{c, c}, true);
  norm_ = add<Norm>(*this, "norm", config, c);
  auto own = config;  // in timm, the pool's MLP always has biases and never a norm
  own.proj_bias = true;
  own.scale_mlp_norm = false;
  mlp_ = add<Mlp>(*this, "mlp", own, MlpKind::mlp, config.pool_mlp_dim());
}

at::Tensor AttentionPool::operator()(
    const at::Tensor& tokens, const std::optional<at::Tensor>& bias) const {
  const auto q = split_heads((*q_)(latent_).expand({tokens.size(0), -1, -1}), 1, heads_);
  const auto kv = split_heads((*kv_)(tokens), 2, heads_);
  const auto x = (*proj_)(attend({q[0], kv[0], kv[1]}, bias));  // [B, 1, C]
  return mlp_->added_to(x, mlp_->hidden((*norm_)(x)), nullptr).select(1, 0);
}

}  // namespace dsm_ext::aten
