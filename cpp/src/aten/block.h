#pragma once

#include <memory>

#include "aten/merging.h"
#include "model/request.h"

namespace dsm_ext::aten {

/// A transformer block with its merge steps.
class Block : public Parameters {
 public:
  /// \param steps  The merge steps of this block.
  /// \param rows   kAllRows, or how many of the first rows of the output to compute for each image.
  ///               With a number of rows, `steps` must be empty, and the call changes only
  ///               `state.tokens`, to [B, rows, C].
  virtual void forward(
      TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows,
      const RunContext& run) const = 0;

  /// \param index  The block's place in the model.
  static std::shared_ptr<Block> make(const Config& config, int64_t index);
};

/// timm's `Block` and `EvaBlock`: x + attn(norm1(x)), then the merge steps, then x + mlp(norm2(x)).
std::shared_ptr<Block> make_sequential_block(const Config& config, int64_t index);

/// timm's `ParallelScalingBlock`: x + attn(in_norm(x)) + mlp(in_norm(x)), then the merge steps.
std::shared_ptr<Block> make_parallel_block(const Config& config, int64_t index);

/// The first `rows` tokens of each image [B, rows, C]; all tokens when `rows` is kAllRows.
inline at::Tensor first_rows(const at::Tensor& tokens, int64_t rows) {
  return rows == kAllRows ? tokens : tokens.narrow(1, 0, rows);
}

}  // namespace dsm_ext::aten
