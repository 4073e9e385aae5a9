#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "dsm_ext/vision_transformer.h"
#include "layout.h"

namespace dsm_ext {

/// What a pass through the model is asked for.
struct Wanted {
  bool logits = false;
  bool features = false;
  bool trace = false;                // where each patch went
  std::vector<int64_t> blocks = {};  // ascending: the tokens behind them
  bool norm = false;                 // of those

  /// Whether the last block is to be computed for all rows.
  bool whole(const Config& config) const {
    return features || trace || config.pooled_tokens() == 0 || !logits;
  }
  /// How many blocks are needed.
  int64_t depth(const Config& config) const {
    return logits || features || trace ? config.depth : blocks.empty() ? 0 : blocks.back() + 1;
  }

  bool operator==(const Wanted&) const = default;
};

/// What it gives; what was not asked for is undefined.
struct Passed {
  at::Tensor logits;    // [B, num_classes or C]
  at::Tensor features;  // [B, M, C]
  at::Tensor source;    // [B, gh * gw] int32
  at::Tensor size;      // [B, M] float32
  std::vector<Intermediate> blocks;
};

/// Memory for all that is wanted, uninitialised.
/// \param options  Of the images.
Passed allocate(
    const Wanted& wanted, const Layout& layout, int64_t images, const at::TensorOptions& options);

}  // namespace dsm_ext
