#pragma once

#include <torch/nn/module.h>

#include <map>

#include "../ops/fused.h"
#include "dsm_ext/config.h"

namespace dsm_ext {

/// A module whose tensors, under timm's names, can be replaced by others.
class Parameters : public torch::nn::Module {
 public:
  using Given = std::map<std::string, at::Tensor>;

  /// Takes as its own what `given` holds under `prefix` and its names.
  void adopt(const std::string& prefix, const Given& given);

 protected:
  /// Registers a tensor, uninitialised; `tensor` follows what is adopted.
  void own(const char* name, at::IntArrayRef shape, at::Tensor& tensor);

 private:
  std::vector<std::pair<std::string, at::Tensor*>> own_;
};

/// A linear layer, or a convolution's weights.
class Linear : public Parameters {
 public:
  Linear(at::IntArrayRef weight_shape, bool with_bias);
  at::Tensor operator()(const at::Tensor& x) const;

  /// The same, added to `addend`.
  at::Tensor added_to(const at::Tensor& addend, const at::Tensor& x) const;

  /// The same for some of the outputs.
  at::Tensor rows(const at::Tensor& x, int64_t begin, int64_t count) const;

  at::Tensor weight, bias;
};

class Norm : public Parameters {
 public:
  Norm(const Config& config, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const { return dsm_ext::normalize(x, parameters()); }

  NormParameters parameters() const { return {weight, bias, eps_, kind_ == NormKind::rms_norm}; }

  at::Tensor weight, bias;

 private:
  NormKind kind_;
  double eps_;
};

class LayerScale : public Parameters {
 public:
  explicit LayerScale(int64_t channels);

  at::Tensor gamma;
};

/// The same, where there is one; x itself where not.
at::Tensor normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x);

/// x + scale(linear(input)), where there is a scale.
at::Tensor residual(
    const at::Tensor& x, const Linear& linear, const at::Tensor& input,
    const std::shared_ptr<LayerScale>& scale);

at::Tensor activate(Activation activation, at::Tensor x);  // x is overwritten

/// timm's `Mlp`, `GluMlp` or `SwiGLU`.
class Mlp : public Parameters {
 public:
  Mlp(const Config& config, MlpKind kind, int64_t hidden);

  /// What fc2 takes.
  at::Tensor hidden(const at::Tensor& x) const;

  /// fc2's output, multiplied by the scale where there is one, and added to `addend`.
  at::Tensor added_to(
      const at::Tensor& addend, const at::Tensor& hidden,
      const std::shared_ptr<LayerScale>& scale) const;

 private:
  MlpKind kind_;
  Activation activation_;
  std::shared_ptr<Linear> fc1_, fc1_g_, fc1_x_, fc2_;
  std::shared_ptr<Norm> norm_;
};

/// Registers a layer under timm's name.
template <typename Layer, typename... Arguments>
std::shared_ptr<Layer> add(torch::nn::Module& to, const char* name, Arguments&&... arguments) {
  return to.register_module(name, std::make_shared<Layer>(std::forward<Arguments>(arguments)...));
}

/// x [B, N, parts * H * D] as heads [parts, B, H, N, D].
at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads);

/// softmax(q k^T / sqrt(D) + bias) v for q, k and v [B, H, N, D], heads side by side [B, N, H * D].
/// \param bias  [B, 1, 1, N], or none; rows that begin at multiples of 8 are not copied.
at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias);

}  // namespace dsm_ext
