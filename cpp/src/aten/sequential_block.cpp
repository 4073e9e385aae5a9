#include "aten/attention.h"
#include "aten/block.h"
#include "aten/class_attention.h"
#include "aten/mlp.h"

namespace dsm_ext::aten {
namespace {

class SequentialBlock : public Block {
 public:
  explicit SequentialBlock(const Config& config);

  void forward(
      TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows,
      const RunContext& run) const override;

 private:
  std::optional<Attention> attention_;
  std::shared_ptr<Norm> norm1_, attn_norm_, norm2_;
  std::shared_ptr<Linear> qkv_, proj_;
  std::shared_ptr<LayerScale> ls1_, ls2_;
  std::shared_ptr<Mlp> mlp_;
};

SequentialBlock::SequentialBlock(const Config& config) {
  const int64_t c = config.embed_dim;
  norm1_ = add<Norm>(*this, "norm1", config, c);
  const auto attn = add<torch::nn::Module>(*this, "attn");
  qkv_ = add<Linear>(*attn, "qkv", std::vector{3 * c, c}, config.qkv_bias);
  attention_.emplace(*attn, config);
  if (config.scale_attn_norm) {
    attn_norm_ = add<Norm>(*attn, "norm", config, c);
  }
  proj_ = add<Linear>(*attn, "proj", std::vector{c, c}, config.proj_bias);
  norm2_ = add<Norm>(*this, "norm2", config, c);
  mlp_ = add<Mlp>(*this, "mlp", config, config.mlp_layer, config.mlp_dim);
  if (config.layer_scale) {
    ls1_ = add<LayerScale>(*this, "ls1", c);
    ls2_ = add<LayerScale>(*this, "ls2", c);
  }
}

void SequentialBlock::forward(
    TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows, const RunContext& run) const {
  auto x = (*norm1_)(state.tokens);
  run.finish(Stage::norm1);
  const auto heads = rows == kAllRows ? attention_->split((*qkv_)(x))
                                      : attention_->project_rows(*qkv_, 0, x, rows);
  run.finish(Stage::qkv);
  if (run.class_attention != nullptr) {
    *run.class_attention = class_attention(state, heads, run.plan);
  }
  const bool early = matches_before_attention(run);
  auto matched = early ? match_steps(state, heads, steps, run) : Matched{};
  x = attend(heads, state.bias(run.plan.proportional()));
  run.finish(Stage::attention);
  state.tokens = residual(first_rows(state.tokens, rows), *proj_, normalize(attn_norm_, x), ls1_);
  run.finish(Stage::proj);
  if (!early) {
    matched = match_steps(state, heads, steps, run);
  }
  x = mlp_->hidden(merge_steps_and_normalize(state, matched, steps, *norm2_, run));
  run.finish(Stage::fc1);
  state.tokens = mlp_->added_to(state.tokens, x, ls2_);
  run.finish(Stage::fc2);
}

}  // namespace

std::shared_ptr<Block> make_sequential_block(const Config& config) {
  return std::make_shared<SequentialBlock>(config);
}

std::shared_ptr<Block> Block::make(const Config& config) {
  return config.block == BlockKind::parallel ? make_parallel_block(config)
                                             : make_sequential_block(config);
}

}  // namespace dsm_ext::aten
