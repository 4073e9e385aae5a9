#pragma once

#include "merging.h"

namespace dsm_ext {

/// A block of any kind, merge steps included.
class Block : public Parameters {
 public:
  virtual void forward(
      Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const = 0;

  /// The block's output for the first `rows` rows alone [B, rows, C], all of them prefix tokens,
  /// which depend on no merge step of this block.
  virtual at::Tensor forward_rows(
      const Sequence& sequence, int64_t rows, bool proportional) const = 0;

  static std::shared_ptr<Block> make(const Config& config);
};

}  // namespace dsm_ext
