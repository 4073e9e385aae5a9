#include "block.h"

#include <ATen/Functions.h>

#include "dsm_ext/ops.h"

namespace dsm_ext {
namespace {

at::Tensor linear(const at::Tensor& x, const Parameters& layer) {
  return at::linear(x, layer.weight, layer.bias);
}

at::Tensor compose(const at::Tensor& source, const at::Tensor& destination) {
  return destination.gather(1, source.to(at::kLong));
}

// Carries out one merge step; `metric` [B, N, D] float32 is merged along where another step
// follows.
void merge_step(
    Sequence& sequence, const PlannedStep& step, const Layout& layout, int64_t prefix,
    at::Tensor& metric, bool another_follows) {
  std::optional<at::Tensor> order;
  if (step.regroup) {
    order = layout.window_order(metric.device());
  }
  const auto destination = match(metric, step.r, prefix, step.windows, order);
  if (another_follows) {
    metric = std::get<0>(merge(metric, sequence.size, destination, step.tokens_out));
  }
  std::tie(sequence.tokens, sequence.size) =
      merge(sequence.tokens, sequence.size, destination, step.tokens_out);
  if (sequence.source.defined()) {
    sequence.source = compose(sequence.source, destination);
  }
}

}  // namespace

Parameters::Parameters(at::IntArrayRef weight_shape) {
  weight = register_parameter("weight", at::empty(weight_shape), /*requires_grad=*/false);
  bias = register_parameter("bias", at::empty(weight_shape[0]), /*requires_grad=*/false);
}

Block::Block(const Config& config)
    : prefix_(config.prefix()),
      heads_(config.num_heads),
      head_dim_(config.head_dim()),
      eps_(config.eps) {
  const int64_t c = config.embed_dim;
  const auto attn = std::make_shared<torch::nn::Module>();
  const auto mlp = std::make_shared<torch::nn::Module>();
  norm1_ = add_parameters(*this, "norm1", {c});
  register_module("attn", attn);
  qkv_ = add_parameters(*attn, "qkv", {3 * c, c});
  proj_ = add_parameters(*attn, "proj", {c, c});
  norm2_ = add_parameters(*this, "norm2", {c});
  register_module("mlp", mlp);
  fc1_ = add_parameters(*mlp, "fc1", {config.mlp_dim, c});
  fc2_ = add_parameters(*mlp, "fc2", {c, config.mlp_dim});
}

std::shared_ptr<Parameters> add_parameters(
    torch::nn::Module& to, const char* name, at::IntArrayRef weight_shape) {
  return to.register_module(name, std::make_shared<Parameters>(weight_shape));
}

void Parameters::adopt(const at::Tensor& new_weight, const at::Tensor& new_bias) {
  weight = parameters_["weight"] = new_weight;
  bias = parameters_["bias"] = new_bias;
}

at::Tensor Block::normalize(const at::Tensor& x, const Parameters& norm) const {
  return at::layer_norm(x, norm.weight.sizes(), norm.weight, norm.bias, eps_);
}

at::Tensor Block::mlp(const at::Tensor& x) const {
  auto hidden = linear(normalize(x, *norm2_), *fc1_);
  at::gelu_(hidden);
  return linear(hidden, *fc2_).add_(x);
}

// softmax(q k^T / sqrt(D) + log(size of the key)) v, for q, k and v [B, H, N, D], heads side by
// side.
at::Tensor Block::attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Sequence& sequence,
    bool proportional) const {
  std::optional<at::Tensor> bias;  // [B, 1, 1, N]
  if (proportional && sequence.size.defined()) {
    bias = sequence.size.log().to(q.scalar_type()).unsqueeze(1).unsqueeze(1);
    bias = bias->expand({q.size(0), 1, q.size(2), k.size(2)});
  }
  const auto out = at::scaled_dot_product_attention(q, k, v, bias);
  return out.transpose(1, 2).reshape({q.size(0), q.size(2), heads_ * head_dim_});
}

void Block::forward(Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const {
  const auto& x = sequence.tokens;
  const auto qkv =
      linear(normalize(x, *norm1_), *qkv_).view({x.size(0), x.size(1), 3, heads_, head_dim_});
  const auto heads_first = qkv.permute({2, 0, 3, 1, 4});  // [3, B, H, N, D]
  const auto attended = attend(
      heads_first[0], heads_first[1], heads_first[2], sequence, layout.schedule().proportional());
  sequence.tokens = linear(attended, *proj_).add_(x);

  if (!plan.steps.empty()) {
    auto metric = qkv.select(2, 1).mean({2}, /*keepdim=*/false, at::kFloat);  // [B, N, D]
    if (!sequence.size.defined()) {
      sequence.size = at::ones({x.size(0), x.size(1)}, metric.options());
    }
    for (const auto& step : plan.steps) {
      merge_step(sequence, step, layout, prefix_, metric, &step != &plan.steps.back());
    }
  }
  sequence.tokens = mlp(sequence.tokens);
}

at::Tensor Block::forward_prefix(const Sequence& sequence, bool proportional) const {
  const int64_t c = heads_ * head_dim_;
  const auto split = [&](const at::Tensor& x, int64_t parts) {  // [parts, B, H, N, D]
    return x.view({x.size(0), x.size(1), parts, heads_, head_dim_}).permute({2, 0, 3, 1, 4});
  };
  const auto x = normalize(sequence.tokens, *norm1_);
  const auto q = split(
      at::linear(x.narrow(1, 0, prefix_), qkv_->weight.narrow(0, 0, c), qkv_->bias.narrow(0, 0, c)),
      1);
  const auto kv =
      split(at::linear(x, qkv_->weight.narrow(0, c, 2 * c), qkv_->bias.narrow(0, c, 2 * c)), 2);
  const auto attended = attend(q[0], kv[0], kv[1], sequence, proportional);
  return mlp(linear(attended, *proj_).add_(sequence.tokens.narrow(1, 0, prefix_)));
}

}  // namespace dsm_ext
