#pragma once

#include <optional>

#include "../layout.h"
#include "weights.h"
#include "workspace.h"

namespace dsm_ext::cpu {

/// What a forward is asked for, and where it goes; undefined tensors are not asked for.
struct Outputs {
  at::Tensor logits;    // [B, num_classes]
  at::Tensor features;  // [B, M, C]: then the last block runs whole
  at::Tensor source;    // [B, gh * gw] int32
  at::Tensor size;      // [B, M]
};

/// Some images' way through the model, in a workspace.
class Forward {
 public:
  Forward(
      const Config& config, const Weights& weights, const Layout& layout, Workspace& workspace,
      Profile* profile);

  /// \param images  [.., in_chans, height, width], contiguous float32.
  void run(const float* images, const Outputs& outputs, int64_t first, int64_t count);

 private:
  using Seconds = std::vector<std::array<double, kStages>>;  // by thread

  void embed(const float* images);
  void block(int64_t i, int32_t* source);
  void last_block(int64_t i);
  void norm_and_qkv(
      const BlockWeights& block, const float* x, int64_t rows, Range panels, const Product& to);
  void attend_and_match(int64_t i, int32_t* source);
  void attend(int64_t image, int64_t head, float* q, int64_t stride, int64_t queries, int64_t slot);
  void match(int64_t i, int64_t image, Scratch& own, int32_t* source) const;
  void project(const BlockWeights& block, const float* attended, int64_t stride, int64_t rows);
  void mlp(const BlockWeights& block, int64_t rows, bool merged);
  void head(const float* tokens, int64_t stride, const Outputs& outputs, int64_t first);

  /// \param hidden_width  Of the rows that pass between the stages in `Piece::hidden`.
  void chain(int64_t rows, std::initializer_list<RowStage> stages, int64_t hidden_width = 0);
  void normalize(const Norm& norm, const float* x, int64_t rows, float* out) const;
  void fill_bias(float* bias, const float* size, int64_t tokens) const;
  int64_t next_tokens(int64_t i) const { return layout_.plan().blocks[i].tokens_out; }
  void end_part();

  const Config& config_;
  const Weights& weights_;
  const Layout& layout_;
  Workspace& ws_;
  Profile* profile_;
  Seconds seconds_;
  Clock clock_;
  size_t part_ = 0;  // of the profile: 0 before the blocks

  int64_t images_ = 0;  // of this run
  int64_t tokens_ = 0;  // of each image now
  bool sized_ = false;  // whether any token stands for more than one patch
};

}  // namespace dsm_ext::cpu
