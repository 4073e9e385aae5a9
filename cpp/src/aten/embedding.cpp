#include "aten/embedding.h"

#include <ATen/Functions.h>

#include "model/positions.h"

namespace dsm_ext::aten {

Embedding::Embedding(torch::nn::Module& model, const Config& config) : config_(config) {
  const int64_t c = config.embed_dim;
  const int64_t positions = config.patches() + (config.no_embed_class ? 0 : config.prefix());
  const auto options =
      at::TensorOptions(at::kMeta).dtype(at::kFloat);  // ignore torch's default dtype
  for (auto& [name, tensor] : own_tokens()) {
    const int64_t rows = tensor == &pos_embed_   ? positions
                         : tensor == &reg_token_ ? config.reg_tokens
                                                 : 1;
    *tensor =
        model.register_parameter(name, at::empty({1, rows, c}, options), /*requires_grad=*/false);
  }
  const auto patch_embed = add<torch::nn::Module>(model, "patch_embed");
  proj_ = add<Linear>(
      *patch_embed, "proj",
      std::vector{c, config.in_chans, config.patch_size[0], config.patch_size[1]},
      config.patch_bias);
  if (config.embed_norm) {
    norm_ = add<Norm>(*patch_embed, "norm", config, c);
  }
  if (config.pre_norm) {
    norm_pre_ = add<Norm>(model, "norm_pre", config, c);
  }
}

std::vector<std::pair<const char*, at::Tensor*>> Embedding::own_tokens() {
  std::vector<std::pair<const char*, at::Tensor*>> tokens;
  if (config_.class_token) {
    tokens.emplace_back("cls_token", &cls_token_);
  }
  if (config_.distilled) {
    tokens.emplace_back("dist_token", &dist_token_);
  }
  if (config_.reg_tokens > 0) {
    tokens.emplace_back("reg_token", &reg_token_);
  }
  if (config_.pos_embed) {
    tokens.emplace_back("pos_embed", &pos_embed_);
  }
  return tokens;
}

at::Tensor Embedding::operator()(const at::Tensor& patches, const CompiledPlan& plan) const {
  const int64_t b = patches.size(0), c = config_.embed_dim, prefix = config_.prefix();
  const auto grid = normalize(norm_, linear(patches, proj_->weight.flatten(1), proj_->bias));
  at::Tensor positions;  // [1, N, C]; [1, gh * gw, C] when prefix tokens have no position
  if (config_.pos_embed) {
    positions = resample_positions(pos_embed_, config_, plan.config().grid());
  }
  const int64_t without_position = config_.no_embed_class ? prefix : 0;
  auto tokens = at::empty({b, prefix + grid.size(1), c}, patches.options());
  int64_t begin = 0;
  for (const auto& part : {cls_token_, dist_token_, reg_token_, grid}) {
    if (!part.defined()) {
      continue;
    }
    const int64_t count = part.size(1);
    auto rows = tokens.narrow(1, begin, count);
    if (positions.defined() && begin >= without_position) {
      at::add_out(
          rows, part.expand({b, count, c}), positions.narrow(1, begin - without_position, count));
    } else {
      rows.copy_(part);
    }
    begin += count;
  }
  return normalize(norm_pre_, tokens);
}

}  // namespace dsm_ext::aten
