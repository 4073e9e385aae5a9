#include "aten/attention.h"

#include "aten/rope.h"
#include "ops/fused.h"

namespace dsm_ext::aten {

at::Tensor Heads::repeated(const at::Tensor& x) const {
  return x.size(1) == q.size(1) ? x : x.repeat_interleave(q.size(1) / x.size(1), 1);
}

at::Tensor attend(const Heads& heads, const std::optional<at::Tensor>& bias) {
  return dsm_ext::attend(heads.q, heads.repeated(heads.k), heads.repeated(heads.v), bias);
}

at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads) {
  return x.unflatten(2, {parts, heads, -1}).permute({2, 0, 3, 1, 4});
}

Heads split_qkv(const at::Tensor& qkv, int64_t heads) {
  const auto parts = split_heads(qkv, 3, heads);
  return {parts[0], parts[1], parts[2]};
}

Heads split_q_kv(const at::Tensor& q, const at::Tensor& kv, int64_t heads) {
  const auto parts = split_heads(kv, 2, heads);
  return {split_heads(q, 1, heads)[0], parts[0], parts[1]};
}

HeadNorms::HeadNorms(torch::nn::Module& owner, const Config& config, int64_t block)
    : block_(block) {
  if (config.qk_norm) {
    q_norm_ = add<Norm>(owner, "q_norm", config, config.head_dim());
    k_norm_ = add<Norm>(owner, "k_norm", config, config.head_dim());
  }
}

Heads HeadNorms::operator()(
    const Heads& heads, const TokenState& state, const RunContext& run) const {
  const Heads normed{normalize(q_norm_, heads.q), normalize(k_norm_, heads.k), heads.v};
  if (run.rope != nullptr) {
    run.rope->rotate(normed.q, normed.k, state.location, run.plan, block_);
  }
  return normed;
}

}  // namespace dsm_ext::aten
