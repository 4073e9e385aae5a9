#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dsm_ext/export.h"
#include "dsm_ext/merge_rule.h"

namespace dsm_ext {

/// A merge step with its counts, which depend on the shapes alone and never on an image.
struct DSM_EXT_API PlannedStep {
  int64_t r;                     ///< Tokens to remove from the sequence, or from each window.
  std::vector<int64_t> windows;  ///< Tokens in each window before the step; empty: global.
  bool regroup;                  ///< The first local step: the sequence is still row-major.
  int64_t tokens_in, tokens_out;

  bool operator==(const PlannedStep&) const = default;
};

struct DSM_EXT_API PlannedBlock {
  std::vector<PlannedStep> steps;
  int64_t tokens_in, tokens_out;
  int64_t multiply_adds;         ///< As timm and the papers count: the whole block.
  int64_t multiply_adds_logits;  ///< What logits need: the last block for the pooled rows alone.

  std::string kind() const;  ///< "dense", "local", "global" or "local+global".
  bool operator==(const PlannedBlock&) const = default;
};

/// A schedule laid out for a model: what happens in each block, and what it costs.
///
/// Multiply-adds are those of the products, attention's included, for one image. Matching is left
/// out, as in the papers; it adds under 1 %.
struct DSM_EXT_API Plan {
  std::vector<PlannedBlock> blocks;
  /// [gh * gw]: the patch at each window-major place, or empty.
  std::vector<int32_t> window_order;
  int64_t multiply_adds_embed, multiply_adds_head;
  int64_t tokens_dense;         ///< Tokens of the sequence before any merging.
  int64_t multiply_adds_dense;  ///< Of the same model with nothing merged, as the papers count.
  int64_t multiply_adds_dense_logits;  ///< Of the same, where only logits are asked for.
  MergeRule rule = {};                 ///< How every step decides which tokens merge.

  int64_t tokens_out() const;
  int64_t multiply_adds() const;         ///< Of the whole forward, as timm and the papers count.
  int64_t multiply_adds_logits() const;  ///< Of what is done for logits.

  /// One line a block and the totals.
  std::string str() const;
  bool operator==(const Plan&) const = default;
};

}  // namespace dsm_ext
