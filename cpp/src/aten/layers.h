#pragma once

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "ops/fused.h"

namespace dsm_ext::aten {

/// A module that registers its parameters under timm's names and can replace their tensors.
class Parameters : public torch::nn::Module {
 public:
  using Given = std::map<std::string, at::Tensor>;

  /// Replaces each parameter by the tensor that `given` has under `prefix` + the parameter's name.
  void adopt(const std::string& prefix, const Given& given);

 protected:
  /// Creates a parameter on the meta device, registers it and writes it to `tensor`. `adopt` writes
  /// to `tensor` again, so `tensor` must live as long as the module.
  void own(const char* name, at::IntArrayRef shape, at::Tensor& tensor);

 private:
  std::vector<std::pair<std::string, at::Tensor*>> own_;
};

/// A linear layer. It also holds the patch embedding's weight, which has a convolution's shape.
class Linear : public Parameters {
 public:
  Linear(at::IntArrayRef weight_shape, bool with_bias);

  at::Tensor operator()(const at::Tensor& x) const;

  /// addend + the layer's output.
  at::Tensor added_to(const at::Tensor& addend, const at::Tensor& x) const;

  /// Computes only the layer's outputs `first` to `first + count - 1`.
  at::Tensor part(const at::Tensor& x, int64_t first, int64_t count) const;

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

/// The norm of x; x itself when `norm` is null.
at::Tensor normalize(const std::shared_ptr<Norm>& norm, const at::Tensor& x);

/// x + scale * y; x + y when `scale` is null.
at::Tensor scaled_sum(
    const at::Tensor& x, const at::Tensor& y, const std::shared_ptr<LayerScale>& scale);

/// x + scale * linear(input); x + linear(input) when `scale` is null.
at::Tensor residual(
    const at::Tensor& x, const Linear& linear, const at::Tensor& input,
    const std::shared_ptr<LayerScale>& scale);

/// Applies an activation in place.
at::Tensor activate(Activation activation, at::Tensor x);

/// Creates a layer and registers it in `to` under timm's name.
template <typename Layer, typename... Arguments>
std::shared_ptr<Layer> add(torch::nn::Module& to, const char* name, Arguments&&... arguments) {
  return to.register_module(name, std::make_shared<Layer>(std::forward<Arguments>(arguments)...));
}

}  // namespace dsm_ext::aten
