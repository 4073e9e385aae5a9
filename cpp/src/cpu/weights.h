#pragma once

#include <vector>

#include "cpu/elements.h"
#include "cpu/kernels/norms.h"
#include "cpu/panels.h"
#include "dsm_ext/config.h"
#include "model/parameters.h"

namespace dsm_ext::cpu {

struct Norm {
  at::Tensor weight, bias;  // both undefined if there is no norm; an RMS norm has no bias

  explicit operator bool() const { return weight.defined(); }
};

/// The weights of a block. `proj` and `fc2` include LayerScale's factors.
struct BlockWeights {
  Norm norm1, q_norm, k_norm, attn_norm, norm2, mlp_norm;
  // [(H + 2 * kv_heads) * D, C]: queries, keys, values. With a rotary embedding, the channels of
  // queries and keys are in the order that rotation.h describes.
  Panels qkv;
  Panels proj, fc1, fc2;
  bool gated = false;  // whether fc1 is a gated layer
  int64_t kv_heads = 0;
};

/// The weights of the attention pool. Its block has no norm1, and its `qkv` [2 * C, C] gives only
/// keys and values.
struct PoolWeights {
  at::Tensor q;  // [C]: the learned query after its projection
  BlockWeights block;
};

/// A model's weights as the fast path reads them. They are copies, so that later changes of the
/// parameters do not change them.
struct Weights {
  Weights(const Config& config, const ModelParameters& parameters, const Elements& elements);

  const Elements elements;
  Panels patch_embed;    // [C, in_chans * ph * pw]
  at::Tensor positions;  // [gh * gw, C], without the prefix; undefined if the model has none
  at::Tensor prefix;     // [P, C]: the prefix tokens plus their positions
  Norm embed_norm, norm_pre;
  std::vector<BlockWeights> blocks;
  // The frequencies of the pairs of queries' channels, by axis, in the order of the panels'
  // columns: [2, 1 or depth, panels * kPairs] float32. Panels repeat from there on, because heads
  // do. Undefined without a rotary embedding.
  at::Tensor frequencies;
  Norm norm;
  PoolWeights pool;
  Norm fc_norm;
  // [num_classes, C]. Distilled: [num_classes, 2 * C], applied to the class and the distillation
  // token side by side; it gives the mean of both heads.
  Panels head;
};

}  // namespace dsm_ext::cpu
