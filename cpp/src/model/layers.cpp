#include "layers.h"

#include <ATen/Functions.h>

namespace dsm_ext {

void Parameters::own(const char* name, at::IntArrayRef shape, at::Tensor& tensor) {
  const auto options = at::TensorOptions(at::kMeta).dtype(at::kFloat);  // whatever torch's default
  tensor = register_parameter(name, at::empty(shape, options), /*requires_grad=*/false);
  own_.emplace_back(name, &tensor);
}

void Parameters::adopt(const std::string& prefix, const Given& given) {
  for (auto& [name, tensor] : own_) {
    *tensor = parameters_[name] = given.at(prefix + name);
  }
}

Linear::Linear(at::IntArrayRef weight_shape, bool with_bias) {
  own("weight", weight_shape, weight);
  if (with_bias) {
    own("bias", weight_shape[0], bias);
  }
}

at::Tensor Linear::operator()(const at::Tensor& x) const { return linear(x, weight, bias); }

at::Tensor Linear::added_to(const at::Tensor& addend, const at::Tensor& x) const {
  return linear(x, weight, bias, addend);
}

at::Tensor Linear::rows(const at::Tensor& x, int64_t begin, int64_t count) const {
  return linear(
      x, weight.narrow(0, begin, count), bias.defined() ? bias.narrow(0, begin, count) : bias);
}

Norm::Norm(const Config& config, int64_t channels) : kind_(config.norm_layer), eps_(config.eps) {
  own("weight", channels, weight);
  if (kind_ == NormKind::layer_norm) {
    own("bias", channels, bias);
  }
}

LayerScale::LayerScale(int64_t channels) { own("gamma", channels, gamma); }

at::Tensor normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x) {
  return norm == nullptr ? x : (*norm)(x);
}

at::Tensor residual(
    const at::Tensor& x, const Linear& linear, const at::Tensor& input,
    const std::shared_ptr<LayerScale>& scale) {
  return scale == nullptr ? linear.added_to(x, input) : at::addcmul(x, linear(input), scale->gamma);
}

at::Tensor activate(Activation activation, at::Tensor x) {
  switch (activation) {
    case Activation::gelu:
      return at::gelu_(x);
    case Activation::gelu_tanh:
      return at::gelu_(x, "tanh");
    case Activation::quick_gelu:
      return x.mul_(x.mul(1.702).sigmoid_());
    case Activation::silu:
      return at::silu_(x);
  }
  TORCH_INTERNAL_ASSERT(false);
}

Mlp::Mlp(const Config& config, MlpKind kind, int64_t hidden)
    : kind_(kind), activation_(config.act_layer) {
  const int64_t c = config.embed_dim;
  const bool bias = config.proj_bias;
  if (kind == MlpKind::swiglu) {
    fc1_g_ = add<Linear>(*this, "fc1_g", std::vector{hidden, c}, bias);
    fc1_x_ = add<Linear>(*this, "fc1_x", std::vector{hidden, c}, bias);
  } else {
    const int64_t halves = kind == MlpKind::glu ? 2 : 1;
    fc1_ = add<Linear>(*this, "fc1", std::vector{halves * hidden, c}, bias);
  }
  if (config.scale_mlp_norm) {
    norm_ = add<Norm>(*this, "norm", config, hidden);
  }
  fc2_ = add<Linear>(*this, "fc2", std::vector{c, hidden}, bias);
}

at::Tensor Mlp::added_to(
    const at::Tensor& addend, const at::Tensor& hidden,
    const std::shared_ptr<LayerScale>& scale) const {
  return residual(addend, *fc2_, hidden, scale);
}

at::Tensor Mlp::hidden(const at::Tensor& x) const {
  at::Tensor hidden;
  if (kind_ == MlpKind::swiglu) {
    hidden = activate(activation_, (*fc1_g_)(x)).mul_((*fc1_x_)(x));
  } else if (kind_ == MlpKind::glu) {
    const auto halves = (*fc1_)(x).chunk(2, -1);
    hidden = activate(activation_, halves[0]).mul_(halves[1]);
  } else if (activation_ == Activation::gelu_tanh) {
    hidden = linear(x, fc1_->weight, fc1_->bias, {}, /*gelu_tanh=*/true);
  } else {
    hidden = activate(activation_, (*fc1_)(x));
  }
  return normalize(norm_, hidden);
}

at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads) {
  return x.unflatten(2, {parts, heads, -1}).permute({2, 0, 3, 1, 4});
}

at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias) {
  std::optional<at::Tensor> mask;
  if (bias) {
    mask = bias->expand({q.size(0), q.size(1), q.size(2), k.size(2)});
  }
  at::Tensor attended;  // [B, H, N, D]
  if (mask && q.is_cuda() && q.size(3) % 8 == 0) {
    // cuDNN, which torch might choose, would make a plan for each number of tokens.
    attended = std::get<0>(
        at::_scaled_dot_product_efficient_attention(q, k, v, mask, /*compute_log_sumexp=*/false));
  } else {
    attended = at::scaled_dot_product_attention(q, k, v, mask);
  }
  return attended.transpose(1, 2).flatten(2);
}

}  // namespace dsm_ext
