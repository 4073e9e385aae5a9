#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dsm_ext/export.h"
#include "dsm_ext/merge_rule.h"

namespace dsm_ext {

/// A merge step with its token counts. The counts depend only on the shapes, not on the image.
struct DSM_EXT_API PlannedStep {
  int64_t r;                      ///< Tokens that the step removes.
  std::vector<int64_t> windows;   ///< Tokens in each window before the step. Empty: a global step.
  bool regroup;                   ///< Whether the step first puts the tokens in window-major order.
  int64_t tokens_in, tokens_out;  ///< Tokens of the sequence before and after the step.

  bool operator==(const PlannedStep&) const = default;
};

/// A block with its merge steps, token counts and multiply-adds for one image.
struct DSM_EXT_API PlannedBlock {
  std::vector<PlannedStep> steps;
  int64_t tokens_in, tokens_out;  ///< Tokens of the sequence before and after the block.
  int64_t multiply_adds;          ///< Of the whole block, as timm and the papers count.
  /// What logits need. The last block then computes only the pooled rows.
  int64_t multiply_adds_logits;

  std::string kind() const;  ///< "dense", "local", "global" or "local+global".
  bool operator==(const PlannedBlock&) const = default;
};

/// A schedule applied to one model and image size: the steps, token counts and cost of each block.
///
/// The multiply-adds are those of all matrix products for one image, also the products inside
/// attention. Matching is not counted, as in the papers. It adds less than 1 %.
struct DSM_EXT_API Plan {
  std::vector<PlannedBlock> blocks;
  /// [gh * gw]: the patch at each place of the window-major order. Empty when no step is local.
  std::vector<int32_t> window_order;
  int64_t multiply_adds_embed, multiply_adds_head;
  int64_t tokens_dense;                ///< Tokens of the sequence before any merging.
  int64_t multiply_adds_dense;         ///< Of the same model without merging, as the papers count.
  int64_t multiply_adds_dense_logits;  ///< What logits need of the same model without merging.
  MergeRule rule = {};                 ///< How every step decides which tokens merge.

  int64_t tokens_out() const;            ///< Tokens of the sequence after the last block.
  int64_t multiply_adds() const;         ///< Of the whole forward, as timm and the papers count.
  int64_t multiply_adds_logits() const;  ///< What logits need.

  /// A table with one line for each block, and the totals.
  std::string str() const;
  bool operator==(const Plan&) const = default;
};

}  // namespace dsm_ext
