#include "aten/mlp.h"

namespace dsm_ext::aten {

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
  } else if (activation_ == Activation::gelu || activation_ == Activation::gelu_tanh) {
    hidden = linear_gelu(x, fc1_->weight, fc1_->bias, activation_ == Activation::gelu_tanh);
  } else {
    hidden = activate(activation_, (*fc1_)(x));
  }
  return normalize(norm_, hidden);
}

}  // namespace dsm_ext::aten
