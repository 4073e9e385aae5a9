#pragma once

#include <memory>

#include "aten/layers.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::aten {

/// Makes the input tokens of the first block from patches: the patch embedding, the prefix tokens,
/// the position embedding and, in some models, norms.
class Embedding {
 public:
  /// Registers the parameters in `model` under timm's names.
  Embedding(torch::nn::Module& model, const Config& config);

  /// \param patches  [B, gh * gw, in_chans * ph * pw], of the plan's image size.
  /// \return         [B, N, C].
  at::Tensor operator()(const at::Tensor& patches, const CompiledPlan& plan) const;

  /// The parameters that belong to the model itself and to no layer, with timm's names.
  std::vector<std::pair<const char*, at::Tensor*>> own_tokens();

  /// The weight of the patch embedding, [C, in_chans, ph, pw].
  const at::Tensor& patch_weight() const { return proj_->weight; }

 private:
  Config config_;
  at::Tensor cls_token_, dist_token_, reg_token_, pos_embed_;  // undefined if the model has none
  std::shared_ptr<Linear> proj_;
  std::shared_ptr<Norm> norm_, norm_pre_;
};

}  // namespace dsm_ext::aten
