#pragma once

#include <torch/nn/module.h>

#include "dsm_ext/config.h"
#include "layout.h"

namespace dsm_ext {

/// A weight and a bias under timm's names: a linear layer, a convolution or a LayerNorm.
class Parameters : public torch::nn::Module {
 public:
  explicit Parameters(at::IntArrayRef weight_shape);
  void adopt(const at::Tensor& new_weight, const at::Tensor& new_bias);
  at::Tensor weight, bias;
};

std::shared_ptr<Parameters> add_parameters(
    torch::nn::Module& to, const char* name, at::IntArrayRef weight_shape);

/// The tokens between two blocks, and what became of the patches.
struct Sequence {
  at::Tensor tokens;  // [B, N, C]
  at::Tensor size;    // [B, N] float32; undefined while every token stands for one patch
  at::Tensor source;  // [B, gh * gw] int32; undefined when nobody traces
};

/// A pre-norm block: x + attn(norm1(x)), then the merge steps, then x + mlp(norm2(x)).
class Block : public torch::nn::Module {
 public:
  explicit Block(const Config& config);

  void forward(Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const;

  /// The block's output for the first `prefix` rows alone: keys and values of all tokens,
  /// everything else of those rows. No row of the prefix depends on this block's merge steps.
  at::Tensor forward_prefix(const Sequence& sequence, bool proportional) const;  // [B, P, C]

 private:
  at::Tensor attend(
      const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Sequence& sequence,
      bool proportional) const;
  at::Tensor normalize(const at::Tensor& x, const Parameters& norm) const;
  at::Tensor mlp(const at::Tensor& x) const;

  int64_t prefix_, heads_, head_dim_;
  double eps_;
  std::shared_ptr<Parameters> norm1_, qkv_, proj_, norm2_, fc1_, fc2_;
};

}  // namespace dsm_ext
