#include "aten/head.h"

namespace dsm_ext::aten {

Head::Head(torch::nn::Module& model, const Config& config) : config_(config) {
  const int64_t c = config.embed_dim, classes = config.num_classes;
  if (config.global_pool == Pool::map) {
    attn_pool_ = add<AttentionPool>(model, "attn_pool", config);
  }
  if (config.fc_norm) {
    fc_norm_ = add<Norm>(model, "fc_norm", config, c);
  }
  if (classes > 0) {
    head_ = add<Linear>(model, "head", std::vector{classes, c}, config.head_bias);
    if (config.distilled) {
      head_dist_ = add<Linear>(model, "head_dist", std::vector{classes, c}, config.head_bias);
    }
  }
}

at::Tensor Head::pooled(const TokenState& state, bool proportional) const {
  const auto& tokens = state.tokens;
  const int64_t first = config_.first_pooled();
  const int64_t count = tokens.size(1) - first;
  at::Tensor x;
  switch (config_.global_pool) {
    case Pool::none:
      return tokens;
    case Pool::token:
      x = tokens.select(1, 0);
      break;
    case Pool::avg:
      x = tokens.narrow(1, first, count);
      if (state.size.defined()) {
        const auto size = state.size.narrow(1, first, count).unsqueeze(2);  // [B, N, 1]
        x = x.to(at::kFloat).mul(size / size.sum(1, /*keepdim=*/true)).sum(1);
        x = x.to(tokens.scalar_type());
      } else {
        x = x.mean(1);
      }
      break;
    case Pool::map: {
      TokenState part{
          .tokens = tokens.narrow(1, first, count),
          .size = {},
          .log_size = {},
          .source = {},
          .location = {}};
      if (proportional && state.size.defined()) {
        part.size = state.size.narrow(1, first, count);
        part.log_size = log_sizes(part.size, tokens.scalar_type());
      }
      x = (*attn_pool_)(part.tokens, part.bias(proportional));
    }
  }
  x = normalize(fc_norm_, x);
  return config_.distilled ? (x + tokens.select(1, 1)).div_(2) : x;
}

at::Tensor Head::logits(const TokenState& state, bool proportional) const {
  const auto& tokens = state.tokens;
  if (head_ != nullptr && config_.distilled) {
    return ((*head_)(tokens.select(1, 0)) + (*head_dist_)(tokens.select(1, 1))).div_(2);
  }
  const auto x = pooled(state, proportional);
  return head_ ? (*head_)(x) : x;
}

}  // namespace dsm_ext::aten
