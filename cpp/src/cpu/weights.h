#pragma once

#include <vector>

#include "cpu/kernels/norms.h"
#include "cpu/panels.h"
#include "dsm_ext/config.h"
#include "model/parameters.h"

namespace dsm_ext::cpu {

struct Norm {
  at::Tensor weight, bias;  // both undefined: no norm. An RMS norm has no bias.

  explicit operator bool() const { return weight.defined(); }
};

/// The weights of a block. LayerScale's factors are part of `proj` and `fc2`.
struct BlockWeights {
  Norm norm1, q_norm, k_norm, attn_norm, norm2, mlp_norm;
  Panels qkv;  // [3 * C, C]: queries, keys, values
  Panels proj, fc1, fc2;
  bool gated = false;  // whether fc1's panels are
};

/// The weights of the attention pool: its query, and a block whose `qkv` [2 * C, C] gives keys and
/// values only and which has no norm1.
struct PoolWeights {
  at::Tensor q;  // [C]
  BlockWeights block;
};

/// A model's weights as the fast path reads them. They are copies: later changes of the parameters
/// do not reach them.
struct Weights {
  Weights(const Config& config, const ModelParameters& parameters, const GemmKernel& kernel);

  const GemmKernel& kernel;
  Panels patch_embed;    // [C, in_chans * ph * pw]
  at::Tensor positions;  // [gh * gw, C], or undefined
  at::Tensor prefix;     // [P, C], with their positions
  Norm embed_norm, norm_pre;
  std::vector<BlockWeights> blocks;
  Norm norm;
  PoolWeights pool;
  Norm fc_norm;
  Panels head;  // [num_classes, C]; distilled: [num_classes, 2 * C], the mean of both heads
};

}  // namespace dsm_ext::cpu
