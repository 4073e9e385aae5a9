#pragma once

#include <memory>

#include "aten/layers.h"

namespace dsm_ext::aten {

/// timm's `Mlp`, `GluMlp` or `SwiGLU`.
class Mlp : public Parameters {
 public:
  Mlp(const Config& config, MlpKind kind, int64_t hidden);

  /// The input of fc2: the hidden layer after activation, gate and norm.
  at::Tensor hidden(const at::Tensor& x) const;

  /// addend + scale * fc2(hidden); addend + fc2(hidden) when `scale` is null.
  at::Tensor added_to(
      const at::Tensor& addend, const at::Tensor& hidden,
      const std::shared_ptr<LayerScale>& scale) const;

 private:
  MlpKind kind_;
  Activation activation_;
  std::shared_ptr<Linear> fc1_, fc1_g_, fc1_x_, fc2_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace dsm_ext::aten
