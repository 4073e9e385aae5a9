#pragma once

#include "layers.h"
#include "layout.h"
#include "stopwatch.h"

namespace dsm_ext {

/// The tokens between two blocks, and what became of the patches.
struct Sequence {
  at::Tensor tokens;    // [B, N, C]
  at::Tensor size;      // [B, N] float32; undefined while every token stands for one patch
  at::Tensor log_size;  // its logarithms, padded: `log_sizes`; undefined likewise
  at::Tensor source;    // [B, gh * gw] int32; undefined when nobody traces
  Stopwatch* watch = nullptr;

  at::Tensor sizes() const;  // [B, N] float32, ones where there is no `size`

  /// What was done since the last mark was this stage, for who measures.
  void mark(Stage stage) const {
    if (watch != nullptr) {
      watch->mark(stage);
    }
  }

  /// Another block, or what comes behind them.
  void begin_part() const {
    if (watch != nullptr) {
      watch->begin_part();
    }
  }

  /// What the sizes add to attention's scores: [B, 1, 1, N] in the tokens' dtype, or none.
  std::optional<at::Tensor> bias(bool proportional) const;
};

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

 protected:
  /// Carries out the block's merge steps; the metric is the mean of the keys [B, H, N, D].
  /// \param norm  Of the tokens that are left, or null.
  /// \return      What it gives; undefined without one.
  static at::Tensor merge_steps(
      Sequence& sequence, const at::Tensor& keys, const PlannedBlock& plan, const Layout& layout,
      const Norm* norm);
};

}  // namespace dsm_ext
