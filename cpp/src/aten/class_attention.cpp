#include "aten/class_attention.h"

#include <ATen/Functions.h>

#include "ops/fused.h"

namespace dsm_ext::aten {
namespace {

// The mean of all queries, weighted by size: [B, H, 1, D] float32.
at::Tensor mean_query(const TokenState& state, const at::Tensor& q) {
  if (!state.size.defined()) {
    return q.mean({2}, /*keepdim=*/true, at::kFloat);
  }
  const auto weights = state.size.div(state.size.sum({1}, /*keepdim=*/true));
  return at::matmul(weights.unsqueeze(1).unsqueeze(1), q.to(at::kFloat));
}

}  // namespace

at::Tensor class_attention(const TokenState& state, const Heads& heads, const CompiledPlan& plan) {
  const auto query =
      plan.config().class_token ? heads.q.narrow(2, 0, 1) : mean_query(state, heads.q);
  return query_attention(query, heads.repeated(heads.k), state.bias(plan.proportional()));
}

}  // namespace dsm_ext::aten
