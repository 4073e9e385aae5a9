#include "block.h"

#include <ATen/Functions.h>

namespace dsm_ext {
namespace {

// x + attn(norm1(x)), then the merge steps, then x + mlp(norm2(x)).
class SequentialBlock : public Block {
 public:
  explicit SequentialBlock(const Config& config);

  void forward(Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const override;
  at::Tensor forward_rows(const Sequence& sequence, int64_t rows, bool proportional) const override;

 private:
  // The attention's projection and what follows up to the merge steps; `x` is what it is added to.
  at::Tensor project(const at::Tensor& attended, const at::Tensor& x) const {
    return residual(x, *proj_, normalize(attn_norm_, attended), ls1_);
  }

  // x + mlp(normed), where `normed` is norm2's.
  at::Tensor add_mlp(const Sequence& sequence, const at::Tensor& x, const at::Tensor& normed) const;

  int64_t channels_, heads_;
  std::shared_ptr<Norm> norm1_, q_norm_, k_norm_, attn_norm_, norm2_;
  std::shared_ptr<Linear> qkv_, proj_;
  std::shared_ptr<LayerScale> ls1_, ls2_;
  std::shared_ptr<Mlp> mlp_;
};

SequentialBlock::SequentialBlock(const Config& config)
    : channels_(config.embed_dim), heads_(config.num_heads) {
  const int64_t c = channels_;
  norm1_ = add<Norm>(*this, "norm1", config, c);
  const auto attn = add<torch::nn::Module>(*this, "attn");
  qkv_ = add<Linear>(*attn, "qkv", std::vector{3 * c, c}, config.qkv_bias);
  if (config.qk_norm) {
    q_norm_ = add<Norm>(*attn, "q_norm", config, config.head_dim());
    k_norm_ = add<Norm>(*attn, "k_norm", config, config.head_dim());
  }
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
    Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const {
  auto x = (*norm1_)(sequence.tokens);
  sequence.mark(Stage::norm1);
  const auto qkv = split_heads((*qkv_)(x), 3, heads_);
  const auto q = normalize(q_norm_, qkv[0]), k = normalize(k_norm_, qkv[1]);
  sequence.mark(Stage::qkv);
  const auto matched = match_steps(sequence, k, plan, layout);
  x = attend(q, k, qkv[2], sequence.bias(layout.schedule().proportional()));
  sequence.mark(Stage::attention);
  sequence.tokens = project(x, sequence.tokens);
  sequence.mark(Stage::proj);
  x = merge_steps(sequence, matched, plan, layout, norm2_.get());
  sequence.tokens = add_mlp(sequence, sequence.tokens, x);
}

at::Tensor SequentialBlock::forward_rows(
    const Sequence& sequence, int64_t rows, bool proportional) const {
  const auto x = (*norm1_)(sequence.tokens);
  sequence.mark(Stage::norm1);
  const auto q = split_heads(qkv_->rows(x.narrow(1, 0, rows), 0, channels_), 1, heads_);
  const auto kv = split_heads(qkv_->rows(x, channels_, 2 * channels_), 2, heads_);
  const auto normed_q = normalize(q_norm_, q[0]), normed_k = normalize(k_norm_, kv[0]);
  sequence.mark(Stage::qkv);
  const auto attended = attend(normed_q, normed_k, kv[1], sequence.bias(proportional));
  sequence.mark(Stage::attention);
  const auto projected = project(attended, sequence.tokens.narrow(1, 0, rows));
  sequence.mark(Stage::proj);
  const auto normed = (*norm2_)(projected);
  sequence.mark(Stage::norm2);
  return add_mlp(sequence, projected, normed);
}

at::Tensor SequentialBlock::add_mlp(
    const Sequence& sequence, const at::Tensor& x, const at::Tensor& normed) const {
  const auto hidden = mlp_->hidden(normed);
  sequence.mark(Stage::fc1);
  auto sum = mlp_->added_to(x, hidden, ls2_);
  sequence.mark(Stage::fc2);
  return sum;
}

// x + attn(in_norm(x)) + mlp(in_norm(x)), then the merge steps.
class ParallelBlock : public Block {
 public:
  explicit ParallelBlock(const Config& config);

  void forward(Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const override;
  at::Tensor forward_rows(const Sequence& sequence, int64_t rows, bool proportional) const override;

 private:
  // Attention's and the MLP's outputs, added to x.
  at::Tensor project(
      const Sequence& sequence, const at::Tensor& attended, const at::Tensor& hidden,
      const at::Tensor& x) const;

  int64_t channels_, heads_, hidden_;
  Activation activation_;
  std::shared_ptr<Norm> in_norm_, q_norm_, k_norm_;
  std::shared_ptr<Linear> in_proj_, attn_out_proj_, mlp_out_proj_;
  std::shared_ptr<LayerScale> ls_;
  at::Tensor mlp_bias_;
};

ParallelBlock::ParallelBlock(const Config& config)
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
  if (config.qk_norm) {
    q_norm_ = add<Norm>(*this, "q_norm", config, config.head_dim());
    k_norm_ = add<Norm>(*this, "k_norm", config, config.head_dim());
  }
  attn_out_proj_ = add<Linear>(*this, "attn_out_proj", std::vector{c, c}, config.proj_bias);
  mlp_out_proj_ = add<Linear>(*this, "mlp_out_proj", std::vector{c, hidden_}, config.proj_bias);
  if (config.layer_scale) {
    ls_ = add<LayerScale>(*this, "ls", c);
  }
}

void ParallelBlock::forward(
    Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const {
  const auto x = (*in_norm_)(sequence.tokens);
  sequence.mark(Stage::norm1);
  const auto parts = (*in_proj_)(x);
  auto hidden = parts.narrow(2, 0, hidden_);
  if (mlp_bias_.defined()) {
    hidden = hidden + mlp_bias_;
  }
  const auto qkv = split_heads(parts.narrow(2, hidden_, 3 * channels_), 3, heads_);
  const auto q = normalize(q_norm_, qkv[0]), k = normalize(k_norm_, qkv[1]);
  sequence.mark(Stage::qkv);
  const auto matched = match_steps(sequence, k, plan, layout);
  const auto attended = attend(q, k, qkv[2], sequence.bias(layout.schedule().proportional()));
  sequence.mark(Stage::attention);
  sequence.tokens = project(sequence, attended, hidden, sequence.tokens);
  merge_steps(sequence, matched, plan, layout, nullptr);
}

at::Tensor ParallelBlock::forward_rows(
    const Sequence& sequence, int64_t rows, bool proportional) const {
  const auto x = (*in_norm_)(sequence.tokens);
  sequence.mark(Stage::norm1);
  const auto first = x.narrow(1, 0, rows);
  auto hidden = in_proj_->rows(first, 0, hidden_);
  if (mlp_bias_.defined()) {
    hidden.add_(mlp_bias_);
  }
  const auto q = split_heads(in_proj_->rows(first, hidden_, channels_), 1, heads_);
  const auto kv = split_heads(in_proj_->rows(x, hidden_ + channels_, 2 * channels_), 2, heads_);
  const auto normed_q = normalize(q_norm_, q[0]), normed_k = normalize(k_norm_, kv[0]);
  sequence.mark(Stage::qkv);
  const auto attended = attend(normed_q, normed_k, kv[1], sequence.bias(proportional));
  sequence.mark(Stage::attention);
  return project(sequence, attended, hidden, sequence.tokens.narrow(1, 0, rows));
}

at::Tensor ParallelBlock::project(
    const Sequence& sequence, const at::Tensor& attended, const at::Tensor& hidden,
    const at::Tensor& x) const {
  const auto projected = (*attn_out_proj_)(attended);
  sequence.mark(Stage::proj);
  const auto activated = activate(activation_, hidden);
  sequence.mark(Stage::fc1);
  // The two are added to each other first, where little is rounded away.
  auto sum = mlp_out_proj_->added_to(projected, activated);
  sum = ls_ == nullptr ? at::add(x, sum) : at::addcmul(x, sum, ls_->gamma);
  sequence.mark(Stage::fc2);
  return sum;
}

}  // namespace

std::shared_ptr<Block> Block::make(const Config& config) {
  if (config.block == BlockKind::parallel) {
    return std::make_shared<ParallelBlock>(config);
  }
  return std::make_shared<SequentialBlock>(config);
}

}  // namespace dsm_ext
