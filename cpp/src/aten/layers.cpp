#include "aten/layers.h"

#include <ATen/Functions.h>

namespace dsm_ext::aten {

void Parameters::own(const char* name, at::IntArrayRef shape, at::Tensor& tensor) {
  const auto options =
      at::TensorOptions(at::kMeta).dtype(at::kFloat);  // ignore torch's default dtype
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

at::Tensor Linear::part(const at::Tensor& x, int64_t first, int64_t count) const {
  return linear(
      x, weight.narrow(0, first, count), bias.defined() ? bias.narrow(0, first, count) : bias);
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

at::Tensor scaled_sum(
    const at::Tensor& x, const at::Tensor& y, const std::shared_ptr<LayerScale>& scale) {
  return scale == nullptr ? at::add(x, y) : at::addcmul(x, y, scale->gamma);
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

}  // namespace dsm_ext::aten
