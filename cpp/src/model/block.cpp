#include "block.h"

#include <ATen/Functions.h>

#include "dsm_ext/ops.h"

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
    return scale(ls1_, (*proj_)(normalize(attn_norm_, attended))).add_(x);
  }
  at::Tensor mlp(const at::Tensor& x) const { return scale(ls2_, (*mlp_)((*norm2_)(x))).add_(x); }

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
  const auto qkv = split_heads((*qkv_)((*norm1_)(sequence.tokens)), 3, heads_);
  const auto q = normalize(q_norm_, qkv[0]), k = normalize(k_norm_, qkv[1]);
  const auto bias = sequence.bias(layout.schedule().proportional());
  sequence.tokens = project(attend(q, k, qkv[2], bias), sequence.tokens);
  merge_steps(sequence, k, plan, layout);
  sequence.tokens = mlp(sequence.tokens);
}

at::Tensor SequentialBlock::forward_rows(
    const Sequence& sequence, int64_t rows, bool proportional) const {
  const auto x = (*norm1_)(sequence.tokens);
  const auto q = split_heads(qkv_->rows(x.narrow(1, 0, rows), 0, channels_), 1, heads_);
  const auto kv = split_heads(qkv_->rows(x, channels_, 2 * channels_), 2, heads_);
  const auto attended = attend(
      normalize(q_norm_, q[0]), normalize(k_norm_, kv[0]), kv[1], sequence.bias(proportional));
  return mlp(project(attended, sequence.tokens.narrow(1, 0, rows)));
}

// x + attn(in_norm(x)) + mlp(in_norm(x)), then the merge steps.
class ParallelBlock : public Block {
 public:
  explicit ParallelBlock(const Config& config);

  void forward(Sequence& sequence, const PlannedBlock& plan, const Layout& layout) const override;
  at::Tensor forward_rows(const Sequence& sequence, int64_t rows, bool proportional) const override;

 private:
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
  const auto parts = (*in_proj_)((*in_norm_)(sequence.tokens));
  auto hidden = parts.narrow(2, 0, hidden_);
  if (mlp_bias_.defined()) {
    hidden = hidden + mlp_bias_;
  }
  const auto qkv = split_heads(parts.narrow(2, hidden_, 3 * channels_), 3, heads_);
  const auto k = normalize(k_norm_, qkv[1]);
  const auto attended = attend(
      normalize(q_norm_, qkv[0]), k, qkv[2], sequence.bias(layout.schedule().proportional()));
  auto sum = (*attn_out_proj_)(attended).add_((*mlp_out_proj_)(activate(activation_, hidden)));
  sequence.tokens = scale(ls_, sum).add_(sequence.tokens);
  merge_steps(sequence, k, plan, layout);
}

at::Tensor ParallelBlock::forward_rows(
    const Sequence& sequence, int64_t rows, bool proportional) const {
  const auto x = (*in_norm_)(sequence.tokens);
  const auto first = x.narrow(1, 0, rows);
  auto hidden = in_proj_->rows(first, 0, hidden_);
  if (mlp_bias_.defined()) {
    hidden.add_(mlp_bias_);
  }
  const auto q = split_heads(in_proj_->rows(first, hidden_, channels_), 1, heads_);
  const auto kv = split_heads(in_proj_->rows(x, hidden_ + channels_, 2 * channels_), 2, heads_);
  const auto attended = attend(
      normalize(q_norm_, q[0]), normalize(k_norm_, kv[0]), kv[1], sequence.bias(proportional));
  auto sum = (*attn_out_proj_)(attended).add_((*mlp_out_proj_)(activate(activation_, hidden)));
  return scale(ls_, sum).add_(sequence.tokens.narrow(1, 0, rows));
}

at::Tensor compose(const at::Tensor& source, const at::Tensor& destination) {
  return destination.gather(1, source.to(at::kLong));
}

}  // namespace

std::optional<at::Tensor> Sequence::bias(bool proportional) const {
  if (!proportional || !size.defined()) {
    return std::nullopt;
  }
  return size.log().to(tokens.scalar_type()).unsqueeze(1).unsqueeze(1);
}

std::shared_ptr<Block> Block::make(const Config& config) {
  if (config.block == BlockKind::parallel) {
    return std::make_shared<ParallelBlock>(config);
  }
  return std::make_shared<SequentialBlock>(config);
}

void Block::merge_steps(
    Sequence& sequence, const at::Tensor& keys, const PlannedBlock& plan, const Layout& layout) {
  if (plan.steps.empty()) {
    return;
  }
  auto metric = keys.mean({1}, /*keepdim=*/false, at::kFloat);  // [B, N, D]
  if (!sequence.size.defined()) {
    sequence.size = at::ones({metric.size(0), metric.size(1)}, metric.options());
  }
  for (const auto& step : plan.steps) {
    std::optional<at::Tensor> order;
    if (step.regroup) {
      order = layout.window_order(metric.device());
    }
    const auto destination = match(metric, step.r, layout.config().prefix(), step.windows, order);
    if (&step != &plan.steps.back()) {
      metric = std::get<0>(merge(metric, sequence.size, destination, step.tokens_out));
    }
    std::tie(sequence.tokens, sequence.size) =
        merge(sequence.tokens, sequence.size, destination, step.tokens_out);
    if (sequence.source.defined()) {
      sequence.source = compose(sequence.source, destination);
    }
  }
}

}  // namespace dsm_ext
