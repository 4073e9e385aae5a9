#include "aten/attention.h"

#include "ops/fused.h"

namespace dsm_ext::aten {

at::Tensor attend(const Heads& heads, const std::optional<at::Tensor>& bias) {
  return dsm_ext::attend(heads.q, heads.k, heads.v, bias);
}

at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads) {
  return x.unflatten(2, {parts, heads, -1}).permute({2, 0, 3, 1, 4});
}

Attention::Attention(torch::nn::Module& owner, const Config& config)
    : channels_(config.embed_dim), heads_(config.num_heads) {
  if (config.qk_norm) {
    q_norm_ = add<Norm>(owner, "q_norm", config, config.head_dim());
    k_norm_ = add<Norm>(owner, "k_norm", config, config.head_dim());
  }
}

Heads Attention::split(const at::Tensor& projected) const {
  const auto qkv = split_heads(projected, 3, heads_);
  return normalized(qkv[0], qkv[1], qkv[2]);
}

Heads Attention::project_rows(
    const Linear& projection, int64_t first_output, const at::Tensor& x, int64_t rows) const {
  const auto q =
      split_heads(projection.part(x.narrow(1, 0, rows), first_output, channels_), 1, heads_);
  const auto kv =
      split_heads(projection.part(x, first_output + channels_, 2 * channels_), 2, heads_);
  return normalized(q[0], kv[0], kv[1]);
}

Heads Attention::normalized(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
  return {normalize(q_norm_, q), normalize(k_norm_, k), v};
}

}  // namespace dsm_ext::aten
