#pragma once

#include <array>
#include <cstdint>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// Of the MLP; `gelu` is the exact one.
enum class Activation { gelu, gelu_tanh, quick_gelu, silu };

enum class NormKind { layer_norm, rms_norm };

/// timm's `Mlp`; `GluMlp` with the gate first (`SwiGLUPacked`); `SwiGLU` with a layer for each
/// half.
enum class MlpKind { mlp, glu, swiglu };

/// How tokens become what the head takes: all of them; the class token; their mean, weighted by how
/// many patches each stands for; or timm's `AttentionPoolLatent`.
enum class Pool { none, token, avg, map };

/// timm's `Block`, or its `ParallelScalingBlock` (attention beside the MLP, arXiv 2302.05442).
enum class BlockKind { sequential, parallel };

/// The shape of a plain Vision Transformer, in timm's names.
struct DSM_EXT_API Config {
  std::array<int64_t, 2> img_size = {224, 224};  ///< Height and width in pixels.
  std::array<int64_t, 2> patch_size = {16, 16};  ///< Height and width in pixels.
  int64_t in_chans = 3;
  int64_t num_classes = 1000;  ///< 0: no head, and `forward` gives what the pooling gives.
  int64_t embed_dim = 768;     ///< C, a multiple of `num_heads`.
  int64_t depth = 12;          ///< L, the number of blocks.
  int64_t num_heads = 12;      ///< H.
  int64_t mlp_dim = 3072;      ///< Hidden width of the MLP, behind the gate where there is one.

  bool class_token = true;
  bool distilled = false;  ///< A distillation token and its head beside the class token (DeiT).
  int64_t reg_tokens = 0;  ///< Register tokens (arXiv 2309.16588), after the class token.
  bool pos_embed = true;   ///< A learned position embedding.
  bool no_embed_class = false;    ///< It has no rows for the prefix tokens.
  bool dynamic_img_size = false;  ///< Other image sizes are taken, the positions resampled.

  BlockKind block = BlockKind::sequential;
  NormKind norm_layer = NormKind::layer_norm;
  double eps = 1e-6;  ///< Of every norm.
  MlpKind mlp_layer = MlpKind::mlp;
  Activation act_layer = Activation::gelu;
  bool layer_scale = false;      ///< Learned factors on the outputs of attention and MLP.
  bool qk_norm = false;          ///< A norm on each head's queries and keys.
  bool scale_attn_norm = false;  ///< A norm in front of the attention's projection.
  bool scale_mlp_norm = false;   ///< A norm in front of the MLP's second layer.
  bool qkv_bias = true;
  bool proj_bias = true;    ///< Of the attention's projection and of the MLP's layers.
  bool patch_bias = true;   ///< Of the patch embedding.
  bool embed_norm = false;  ///< A norm on the patches, before their positions (AIMv2).
  bool pre_norm = false;    ///< A norm in front of the blocks (CLIP).

  bool final_norm = true;  ///< A norm behind the blocks.
  Pool global_pool = Pool::token;
  bool pool_include_prefix = false;  ///< `avg` and `map` pool the prefix tokens too.
  bool fc_norm = false;              ///< A norm behind the pooling.
  bool head_bias = true;

  /// gh and gw; like timm's, the last pixels are left out where the patch does not divide them.
  std::array<int64_t, 2> grid() const {
    return {img_size[0] / patch_size[0], img_size[1] / patch_size[1]};
  }
  int64_t patches() const { return grid()[0] * grid()[1]; }
  /// P, the tokens in front of the grid's.
  int64_t prefix() const { return (class_token ? 1 : 0) + (distilled ? 1 : 0) + reg_tokens; }
  /// N before any merging: P + gh * gw.
  int64_t tokens() const { return prefix() + patches(); }
  int64_t head_dim() const { return embed_dim / num_heads; }
  /// Tokens at the front that `forward` needs of the last block's output; 0: all.
  int64_t pooled_tokens() const { return global_pool != Pool::token ? 0 : distilled ? 2 : 1; }
  /// The first token that `avg` and `map` pool.
  int64_t first_pooled() const { return pool_include_prefix ? 0 : prefix(); }
  /// Of the last dimension of what `forward` gives.
  int64_t outputs() const { return num_classes > 0 ? num_classes : embed_dim; }

  /// \throws c10::ValueError naming the first field out of range.
  void validate() const;
};

}  // namespace dsm_ext
