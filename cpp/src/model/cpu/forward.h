#pragma once

#include <optional>

#include "../interrupt.h"
#include "../pass.h"
#include "attention.h"
#include "weights.h"
#include "workspace.h"

namespace dsm_ext::cpu {

/// Some images' way through the model, in a workspace.
class Forward {
 public:
  /// \param positions  [gh * gw, C], or undefined.
  /// \param interrupt  Of the call: it is asked between blocks.
  Forward(
      const Weights& weights, const at::Tensor& positions, const Layout& layout,
      const Wanted& wanted, Workspace& workspace, InterruptCheck& interrupt, Profile* profile);

  /// Fills the rows of `passed` that belong to images `first` to `first` + `count`.
  /// \param images  [count, in_chans, height, width], contiguous float32.
  void run(const float* images, Passed& passed, int64_t first, int64_t count);

 private:
  using Seconds = std::vector<std::array<double, kStages>>;  // by thread

  void embed(const float* images);
  void block(int64_t i);
  void last_block(int64_t i);
  void norm_and_qkv(
      const BlockWeights& block, const float* x, int64_t rows, Range panels, const Product& to);
  void normalize_heads(const Norm& norm, float* x, int64_t stride, int64_t rows);
  void attend_and_match(int64_t i);
  void attend(const Head& head, int64_t slot);
  Head keys_of(int64_t image, int64_t head) const;
  void match(int64_t i, int64_t image, Scratch& own) const;
  void project(const BlockWeights& block, const float* attended, int64_t stride, int64_t rows);
  void mlp(const BlockWeights& block, int64_t rows, bool merged);

  void keep(Intermediate& kept, int64_t first);
  void finish(Passed& passed, int64_t first);
  void head(const float* tokens, int64_t rows, float* logits);
  void average(const float* tokens);
  void attention_pool(const float* tokens);
  void copy_size(at::Tensor& to, int64_t first) const;
  void copy_source(at::Tensor& to, int64_t first) const;

  /// \param hidden_width  Of the rows that pass between the stages in `Piece::hidden`.
  void chain(int64_t rows, at::ArrayRef<RowStage> stages, int64_t hidden_width = 0);
  void normalize(const Norm& norm, const float* x, int64_t stride, int64_t rows, float* out) const;
  void normalize_row(const Norm& norm, const float* x, int64_t channels, float* out) const;
  void fill_bias(float* bias, const float* size, int64_t tokens) const;
  int64_t next_tokens(int64_t i) const { return layout_.plan().blocks[i].tokens_out; }
  void end_part();

  const Config& config_;
  const Weights& weights_;
  const float* positions_;
  const Layout& layout_;
  const Wanted& wanted_;
  Workspace& ws_;
  InterruptCheck& interrupt_;
  Profile* profile_;
  Seconds seconds_;
  Clock clock_;
  bool traces_;      // whether anyone asks where the patches went
  size_t part_ = 0;  // of the profile: 0 before the blocks

  int64_t images_ = 0;  // of this run
  int64_t tokens_ = 0;  // of each image now
  bool sized_ = false;  // whether any token stands for more than one patch
};

}  // namespace dsm_ext::cpu
