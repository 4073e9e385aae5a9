#pragma once

#include <memory>

#include "aten/attention_pool.h"
#include "aten/token_state.h"

namespace dsm_ext::aten {

/// Makes logits from the tokens after the last norm: pooling, `fc_norm` and the classifier.
class Head {
 public:
  /// Registers the parameters in `model` under timm's names.
  Head(torch::nn::Module& model, const Config& config);

  /// The input of the classifier: [B, C]; with `Pool::none` all tokens.
  /// \param state         The tokens after the last norm, at least those that are pooled.
  /// \param proportional  Whether the attention pool adds the logarithms of sizes to its scores.
  at::Tensor pooled(const TokenState& state, bool proportional) const;

  /// [B, num_classes]; when the model has no classes, the result of `pooled`.
  at::Tensor logits(const TokenState& state, bool proportional) const;

 private:
  Config config_;
  std::shared_ptr<AttentionPool> attn_pool_;
  std::shared_ptr<Norm> fc_norm_;
  std::shared_ptr<Linear> head_, head_dist_;
};

}  // namespace dsm_ext::aten
