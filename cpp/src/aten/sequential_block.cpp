#include "aten/block.h"
#include "aten/class_attention.h"
#include "aten/mlp.h"
#include "aten/self_attention.h"

namespace dsm_ext::aten {
namespace {

class SequentialBlock : public Block {
 public:
  SequentialBlock(const Config& config, int64_t index);

  void forward(
      TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows,
      const RunContext& run) const override;

 private:
  std::shared_ptr<LayerScale> add_scale(
      const Config& config, const char* module, const char* parameter);

  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<SelfAttention> attn_;
  std::shared_ptr<LayerScale> ls1_, ls2_;
  std::shared_ptr<Mlp> mlp_;
};

SequentialBlock::SequentialBlock(const Config& config, int64_t index) {
  const int64_t c = config.embed_dim;
  norm1_ = add<Norm>(*this, "norm1", config, c);
  attn_ = add<SelfAttention>(*this, "attn", config, index);
  norm2_ = add<Norm>(*this, "norm2", config, c);
  mlp_ = add<Mlp>(*this, "mlp", config, config.mlp_layer, config.mlp_dim);
  if (config.layer_scale) {
    ls1_ = add_scale(config, "ls1", "gamma_1");
    if (!config.attn_only_layer_scale) {
      ls2_ = add_scale(config, "ls2", "gamma_2");
    }
  }
}

// Adds LayerScale. Its factors are the parameter `gamma` of a module, or, in timm's `EvaBlock`, a
// parameter of the block.
std::shared_ptr<LayerScale> SequentialBlock::add_scale(
    const Config& config, const char* module, const char* parameter) {
  if (config.block != BlockKind::eva) {
    return add<LayerScale>(*this, module, config.embed_dim);
  }
  auto scale = std::make_shared<LayerScale>(config.embed_dim);
  own(parameter, config.embed_dim, scale->gamma);
  return scale;
}

void SequentialBlock::forward(
    TokenState& state, at::ArrayRef<PlannedStep> steps, int64_t rows, const RunContext& run) const {
  auto x = (*norm1_)(state.tokens);
  run.finish(Stage::norm1);
  const auto heads = attn_->heads(x, rows, state, run);
  run.finish(Stage::qkv);
  if (run.class_attention != nullptr) {
    *run.class_attention = class_attention(state, heads, run.plan);
  }
  const bool early = matches_before_attention(run);
  auto matched = early ? match_steps(state, heads, steps, run) : Matched{};
  x = attend(heads, state.bias(run.plan.proportional()));
  run.finish(Stage::attention);
  state.tokens = attn_->added_to(first_rows(state.tokens, rows), x, ls1_);
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

std::shared_ptr<Block> make_sequential_block(const Config& config, int64_t index) {
  return std::make_shared<SequentialBlock>(config, index);
}

std::shared_ptr<Block> Block::make(const Config& config, int64_t index) {
  return config.block == BlockKind::parallel ? make_parallel_block(config, index)
                                             : make_sequential_block(config, index);
}

}  // namespace dsm_ext::aten
