#pragma once

#include <memory>
#include <optional>

#include "aten/mlp.h"

namespace dsm_ext::aten {

/// timm's `AttentionPoolLatent`: one learned query attends to all tokens; an MLP follows.
class AttentionPool : public Parameters {
 public:
  explicit AttentionPool(const Config& config);

  /// \param tokens  [B, N, C].
  /// \param bias    [B, 1, 1, N], which is added to the scores, or none.
  /// \return        [B, C].
  at::Tensor operator()(const at::Tensor& tokens, const std::optional<at::Tensor>& bias) const;

 private:
  int64_t heads_;
  at::Tensor latent_;
  std::shared_ptr<Linear> q_, kv_, proj_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace dsm_ext::aten
