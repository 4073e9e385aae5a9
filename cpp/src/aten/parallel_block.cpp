#include "aten/attention.h"
#include "aten/block.h"
#include "aten/class_attention.h"
#include "aten/mlp.h"

namespace dsm_ext::aten {
namespace {

class ParallelBlock : public Block {
 public:
  ParallelBlock(const Config& config, int64_t index);

  void forward(
      TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows,
      const RunContext& run) const override;

 private:
  std::optional<HeadNorms> norms_;
  int64_t channels_, heads_, hidden_;
  Activation activation_;
  std::shared_ptr<Norm> in_norm_;
  // The outputs of in_proj are the MLP's hidden layer, then queries, keys and values.
  std::shared_ptr<Linear> in_proj_, attn_out_proj_, mlp_out_proj_;
  std::shared_ptr<LayerScale> ls_;
  at::Tensor mlp_bias_;  // the hidden layer's bias, if in_proj has no bias
};

ParallelBlock::ParallelBlock(const Config& config, int64_t index)
    : channels_(config.embed_dim),
      heads_(config.num_heads),
      hidden_(config.mlp_dim),
      activation_(config.act_layer) {
  const int64_t c = channels_;
  in_norm_ = add<Norm>(*this, "in_norm", config, c);
  in_proj_ = add<Linear>(*this, "in_proj", std::vector{hidden_ + 3 * c, c}, config.qkv_bias);
  if (!config.qkv_bias) {
    own("mlp_bias", hidden_, mlp_bias_);
  }
  norms_.emplace(*this, config, index);
  attn_out_proj_ = add<Linear>(*this, "attn_out_proj", std::vector{c, c}, config.proj_bias);
  mlp_out_proj_ = add<Linear>(*this, "mlp_out_proj", std::vector{c, hidden_}, config.proj_bias);
  if (config.layer_scale) {
    ls_ = add<LayerScale>(*this, "ls", c);
  }
}

void ParallelBlock::forward(
    TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows, const RunContext& run) const {
  const auto x = (*in_norm_)(state.tokens);
  run.finish(Stage::norm1);
  at::Tensor hidden;  // [B, rows or N, hidden]
  Heads heads;
  if (rows == kAllRows) {
    const auto projected = (*in_proj_)(x);
    hidden = projected.narrow(2, 0, hidden_);
    heads = split_qkv(projected.narrow(2, hidden_, 3 * channels_), heads_);
  } else {
    hidden = in_proj_->part(first_rows(x, rows), 0, hidden_);
    heads = split_q_kv(
        in_proj_->part(first_rows(x, rows), hidden_, channels_),
        in_proj_->part(x, hidden_ + channels_, 2 * channels_), heads_);
  }
  heads = (*norms_)(heads, state, run);
  if (mlp_bias_.defined()) {
    hidden = hidden + mlp_bias_;
  }
  run.finish(Stage::qkv);
  if (run.class_attention != nullptr) {
    *run.class_attention = class_attention(state, heads, run.plan);
  }
  const bool early = matches_before_attention(run);
  auto matched = early ? match_steps(state, heads, steps, run) : Matched{};
  const auto attended = attend(heads, state.bias(run.plan.proportional()));
  run.finish(Stage::attention);
  const auto projected = (*attn_out_proj_)(attended);
  run.finish(Stage::proj);
  const auto activated = activate(activation_, hidden);
  run.finish(Stage::fc1);
  // Add the outputs of attention and MLP to each other before adding them to x. Both are small
  // compared with x, so their sum loses fewer bits than adding each of them to x.
  const auto sum = mlp_out_proj_->added_to(projected, activated);
  state.tokens = scaled_sum(first_rows(state.tokens, rows), sum, ls_);
  run.finish(Stage::fc2);
  if (!early) {
    matched = match_steps(state, heads, steps, run);
  }
  merge_steps(state, matched, steps, run);
}

}  // namespace

std::shared_ptr<Block> make_parallel_block(const Config& config, int64_t index) {
  return std::make_shared<ParallelBlock>(config, index);
}

}  // namespace dsm_ext::aten
