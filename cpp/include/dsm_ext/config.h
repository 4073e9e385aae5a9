#pragma once

#include <array>
#include <cstdint>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// The activation of the MLP. `gelu` is the exact GELU, `gelu_tanh` its approximation by tanh.
enum class Activation { gelu, gelu_tanh, quick_gelu, silu };

enum class NormKind { layer_norm, rms_norm };

/// The MLP's class in timm. `mlp`: `Mlp`. `glu`: `GluMlp` with the gate first (`SwiGLUPacked`).
/// `swiglu`: `SwiGLU`, where the gate and the value have a layer each.
enum class MlpKind { mlp, glu, swiglu };

/// How the tokens become the input of the head. `none`: all tokens, for a model without a head.
/// `token`: the class token. `avg`: the mean of the tokens, weighted by size. `map`: timm's
/// `AttentionPoolLatent`.
enum class Pool { none, token, avg, map };

/// The block's class in timm. `sequential`: `Block`. `parallel`: `ParallelScalingBlock`, which adds
/// the outputs of attention and MLP to the same input (arXiv 2302.05442). `eva`: `EvaBlock`, which
/// computes the same as `Block`, and whose LayerScale has the names gamma_1 and gamma_2.
enum class BlockKind { sequential, parallel, eva };

/// The rotary position embedding of queries and keys, by timm's `rope_type`. `cat` counts positions
/// in patches (arXiv 2303.11331). `dinov3` counts them from -1 to 1 over the image (arXiv
/// 2508.10104). `mixed` counts them in patches and has learned frequencies for each block and head
/// (arXiv 2403.13298).
enum class RopeType { none, cat, dinov3, mixed };

/// The order of the two axes in a rotary embedding: `ij` is rows, then columns; `xy` is columns,
/// then rows.
enum class GridIndexing { ij, xy };

/// The shape of a Vision Transformer, in timm's names.
struct DSM_EXT_API Config {
  std::array<int64_t, 2> img_size = {224, 224};  ///< Height and width in pixels.
  std::array<int64_t, 2> patch_size = {16, 16};  ///< Height and width in pixels.
  int64_t in_chans = 3;
  int64_t num_classes = 1000;  ///< 0: no head, and `forward` gives the pooled tokens.
  int64_t embed_dim = 768;     ///< C, a multiple of `num_heads`.
  int64_t depth = 12;          ///< L, the number of blocks.
  int64_t num_heads = 12;      ///< H.
  int64_t mlp_dim = 3072;      ///< Hidden width of the MLP. With a gate, the width after it.

  bool class_token = true;
  bool distilled = false;       ///< Whether there is a distillation token with its own head (DeiT).
  int64_t reg_tokens = 0;       ///< Register tokens after the class token (arXiv 2309.16588).
  bool pos_embed = true;        ///< Whether positions have a learned embedding.
  bool no_embed_class = false;  ///< Whether prefix tokens get no position embedding.
  bool dynamic_img_size = false;  ///< Whether other image sizes run, with resampled positions.

  BlockKind block = BlockKind::sequential;
  NormKind norm_layer = NormKind::layer_norm;
  double eps = 1e-6;  ///< Added to the variance in every norm.
  MlpKind mlp_layer = MlpKind::mlp;
  Activation act_layer = Activation::gelu;
  bool layer_scale = false;  ///< Whether the outputs of attention and MLP have learned factors.
  bool attn_only_layer_scale = false;  ///< Whether only attention's output has these factors.
  bool qk_norm = false;                ///< Whether each head's queries and keys have a norm.
  bool scale_attn_norm = false;        ///< Whether a norm precedes the attention's projection.
  bool scale_mlp_norm = false;         ///< Whether a norm precedes the MLP's second layer.
  bool qkv_fused = true;               ///< Whether one layer makes queries, keys and values.
  bool qkv_bias = true;                ///< Whether queries, keys and values have a bias.
  bool k_bias = true;                  ///< With `qkv_bias`: whether keys have one, too.
  int64_t num_kv_heads = 0;            ///< Heads of keys and values; 0: `num_heads`.
  /// With `num_kv_heads`: how many of the first and how many of the last blocks have `num_heads`
  /// heads of keys and values (Sapiens2).
  int64_t num_full_attn_blocks = 0;
  bool proj_bias = true;    ///< Whether the attention's projection and the MLP have biases.
  bool patch_bias = true;   ///< Whether the patch embedding has a bias.
  bool embed_norm = false;  ///< Whether patches have a norm before positions are added (AIMv2).
  bool pre_norm = false;    ///< Whether a norm precedes the blocks (CLIP).

  RopeType rope_type = RopeType::none;
  double rope_temperature = 10000;  ///< The longest period is about this many times the shortest.
  double rope_grid_offset = 0;      ///< Added to positions before they are scaled.
  GridIndexing rope_grid_indexing = GridIndexing::ij;
  bool rope_rotate_half = false;  ///< Whether channel i turns with i + D / 2, not 2 i with 2 i + 1.
  /// `cat`: positions are scaled as if the grid had this height and width. {0, 0}: they are not.
  std::array<int64_t, 2> ref_feat_shape = {0, 0};

  bool final_norm = true;  ///< Whether a norm follows the blocks.
  Pool global_pool = Pool::token;
  bool pool_include_prefix = false;  ///< Whether `avg` and `map` also pool the prefix tokens.
  int64_t attn_pool_num_heads = 0;   ///< Heads of the attention pool; 0: `num_heads`.
  int64_t attn_pool_mlp_dim = 0;     ///< Hidden width of the attention pool's MLP; 0: `mlp_dim`.
  bool fc_norm = false;              ///< Whether a norm follows the pooling.
  bool head_bias = true;

  /// gh and gw. When the patch size does not divide the image size, the last pixels are not used,
  /// as in timm.
  std::array<int64_t, 2> grid() const {
    return {img_size[0] / patch_size[0], img_size[1] / patch_size[1]};
  }
  int64_t patches() const { return grid()[0] * grid()[1]; }
  /// P, the number of prefix tokens: class, distillation and register tokens.
  int64_t prefix() const { return (class_token ? 1 : 0) + (distilled ? 1 : 0) + reg_tokens; }
  /// N before any merging: P + gh * gw.
  int64_t tokens() const { return prefix() + patches(); }
  int64_t head_dim() const { return embed_dim / num_heads; }
  /// The heads of keys and values in a block.
  int64_t kv_heads(int64_t block) const {
    const bool full = block < num_full_attn_blocks || block >= depth - num_full_attn_blocks;
    return num_kv_heads == 0 || full ? num_heads : num_kv_heads;
  }
  int64_t pool_heads() const { return attn_pool_num_heads > 0 ? attn_pool_num_heads : num_heads; }
  int64_t pool_mlp_dim() const { return attn_pool_mlp_dim > 0 ? attn_pool_mlp_dim : mlp_dim; }
  /// How many of the first tokens `forward` needs from the last block. 0: all of them.
  int64_t pooled_tokens() const { return global_pool != Pool::token ? 0 : distilled ? 2 : 1; }
  /// The index of the first token that `avg` and `map` pool.
  int64_t first_pooled() const { return pool_include_prefix ? 0 : prefix(); }
  /// The length of the last dimension of what `forward` gives.
  int64_t outputs() const { return num_classes > 0 ? num_classes : embed_dim; }

  /// \throws c10::ValueError that names the first field that is out of range.
  void validate() const;
};

}  // namespace dsm_ext
