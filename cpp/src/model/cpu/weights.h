#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "product.h"

namespace dsm_ext::cpu {

/// Finds a parameter by timm's name; undefined where there is none.
using Parameter = std::function<at::Tensor(const std::string&)>;

struct Norm {
  at::Tensor weight, bias;  // of its channels; both undefined: no norm; RMS: no bias

  explicit operator bool() const { return weight.defined(); }
};

/// LayerScale is part of `proj` and `fc2`.
struct BlockWeights {
  Norm norm1, q_norm, k_norm, attn_norm, norm2, mlp_norm;
  Panels qkv;  // [3 * C, C]: queries, keys, values
  Panels proj, fc1, fc2;
  bool gated = false;  // fc1's panels are
};

/// The attention pool: its query, keys and values in `block.qkv` [2 * C, C], and its projection,
/// norm2 and MLP.
struct PoolWeights {
  at::Tensor q;  // [C]
  BlockWeights block;
};

/// A model's weights in the form that the CPU path reads. Copies: what the parameters become
/// afterwards does not reach them.
struct Weights {
  Weights(const Config& config, const Parameter& parameter);

  Panels patch_embed;    // [C, in_chans * ph * pw]
  at::Tensor positions;  // [gh * gw, C], or undefined
  at::Tensor prefix;     // [P, C], with their positions
  Norm embed_norm, norm_pre;
  std::vector<BlockWeights> blocks;
  Norm norm;
  PoolWeights pool;
  Norm fc_norm;
  Panels
      head;  // [num_classes, C], or with two tokens [num_classes, 2 * C], the mean of their heads
};

}  // namespace dsm_ext::cpu
