#pragma once

#include <array>
#include <cstdint>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// The shape of a plain Vision Transformer, in timm's names.
struct DSM_EXT_API Config {
  std::array<int64_t, 2> img_size = {224, 224};  ///< Height and width in pixels.
  std::array<int64_t, 2> patch_size = {16, 16};  ///< Height and width in pixels.
  int64_t in_chans = 3;
  int64_t num_classes = 1000;
  int64_t embed_dim = 768;  ///< C, a multiple of `num_heads`.
  int64_t depth = 12;       ///< L, the number of blocks.
  int64_t num_heads = 12;   ///< H.
  int64_t mlp_dim = 3072;   ///< Hidden width of the MLP.
  bool distilled = false;   ///< A distillation token and its head beside the class token (DeiT).
  double eps = 1e-6;        ///< Of every LayerNorm.

  /// gh and gw; like timm's, the last pixels are left out where the patch does not divide them.
  std::array<int64_t, 2> grid() const {
    return {img_size[0] / patch_size[0], img_size[1] / patch_size[1]};
  }
  /// P, the tokens in front of the grid's.
  int64_t prefix() const { return distilled ? 2 : 1; }
  /// N before any merging: P + gh * gw.
  int64_t tokens() const { return prefix() + grid()[0] * grid()[1]; }
  int64_t head_dim() const { return embed_dim / num_heads; }

  /// \throws c10::ValueError naming the first field out of range.
  void validate() const;
};

}  // namespace dsm_ext
