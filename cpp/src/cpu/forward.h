#pragma once

#include "cpu/attention.h"
#include "cpu/plan_data.h"
#include "cpu/weights.h"
#include "cpu/workspace.h"
#include "model/interrupt.h"
#include "model/request.h"

namespace dsm_ext::cpu {

/// Some images of a batch, which go through the model together.
struct Part {
  const float* images;   // [count, in_chans, height, width]
  int64_t first, count;  // index of the first image in the batch; number of images
};

/// One forward of a `Part` in a workspace; `run_in_order` calls its public functions.
class Forward {
 public:
  /// \param outputs  The outputs of the whole batch. The forward writes the rows of its images.
  Forward(
      const Weights& weights, const CompiledPlan& plan, const PlanData& data,
      const Request& request, Workspace& workspace, InterruptCheck& interrupt, StageTimer* timer,
      const Part& part, Outputs& outputs);

  void embed();
  void block(int64_t i, int64_t rows);
  void keep(int64_t place);
  void finish();

 private:
  // Compute queries, keys and values of a block, and give the operands of its attention.
  Attention project_all(int64_t i);
  Attention project_rows(int64_t i, int64_t rows);
  Attention attention_of(int64_t i, Rows queries, int64_t query_count) const;
  void norm_and_qkv(
      int64_t i, const float* tokens, int64_t rows, Range panels, Rows out, int64_t columns);
  void project_panels(
      int64_t i, const Piece& piece, Range panels, bool turns, Rows out, int64_t columns) const;
  void normalize_heads(int64_t i, Rows x, int64_t rows, Range columns) const;
  Rotation rotation_of(int64_t i, int64_t row, int64_t rows, int64_t panel, Scratch& own) const;
  std::array<const float*, 2> frequencies(int64_t i) const;
  void add_projection(const BlockWeights& block, Rows attended, int64_t rows);
  void add_mlp(const BlockWeights& block, int64_t rows, bool merges);

  void keep_class_queries(const Attention& attention);
  void keep_class_attention(const Attention& attention);
  void write_importance(const Attention& attention, int64_t image, Scratch& own) const;
  bool write_unit_row(const Attention& attention, int64_t row, float* unit) const;
  void match_images(int64_t i, const Attention& attention);
  void match(int64_t i, const Attention& attention, int64_t image, Scratch& own) const;
  void merge_locations(
      int64_t image, const int32_t* begin, const int32_t* members, int64_t tokens) const;

  void head(const float* tokens, int64_t rows, float* logits);
  void average(const float* tokens);
  void attention_pool(const float* tokens);
  void copy_size(at::Tensor& to) const;
  void copy_source(at::Tensor& to) const;
  void copy_location(at::Tensor& to) const;

  /// Runs a chain in the workspace.
  /// \param hidden_width  The number of values in a row of `Piece::hidden`.
  /// \param hidden        Their type.
  /// \param operands      The type of `Piece::operands`.
  void chain(
      int64_t rows, at::ArrayRef<RowStage> stages, int64_t hidden_width, Element hidden,
      Element operands);
  void chain(int64_t rows, at::ArrayRef<RowStage> stages) {
    chain(rows, stages, 0, Element::float32, Element::float32);
  }
  void normalize(const Norm& norm, const float* x, int64_t stride, int64_t rows, Rows out) const;
  NormWeights weights_of(const Norm& norm) const;
  bool rotary() const { return config_.rope_type != RopeType::none; }
  /// Whether this forward keeps the tokens' locations up to date.
  bool locates() const { return rotary() || request_.trace; }
  const float* locations_of(int64_t image) const {
    return state_.merged ? state_.location + 2 * image * state_.count
                         : plan_.locations().const_data_ptr<float>();
  }
  const MergeRule& rule() const { return plan_.plan().rule; }
  /// Rows of queries, keys or values.
  Rows attention_rows(std::byte* data, int64_t width) const {
    const auto element = weights_.elements.attention;
    return {data, width, element};
  }
  Rows pooled_queries() const {
    const auto element = weights_.elements.attention;
    return {ws_.pooled_q, padded(config_.embed_dim, element), element};
  }
  float* tile(const Piece& piece) const { return ws_.scratch[piece.thread].tile; }
  int64_t tokens_out(int64_t i) const { return plan_.plan().blocks[i].tokens_out; }
  void begin_part(int64_t part);

  const Config& config_;
  const Weights& weights_;
  const CompiledPlan& plan_;
  const PlanData& data_;
  const Request& request_;
  Workspace& ws_;
  InterruptCheck& interrupt_;
  StageTimer* timer_;
  const Part part_;
  Outputs& outputs_;

  const int64_t images_;
  TokenState state_, next_;
};

}  // namespace dsm_ext::cpu
