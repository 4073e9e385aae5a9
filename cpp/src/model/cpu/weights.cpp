#include "weights.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

namespace dsm_ext::cpu {
namespace {

Panels pack(const Parameter& parameter, const std::string& name) {
  return {parameter(name + ".weight").flatten(1), parameter(name + ".bias")};
}

Norm norm(const Parameter& parameter, const std::string& name) {
  return {parameter(name + ".weight").clone(), parameter(name + ".bias").clone()};
}

// What scales the scores goes into the queries.
Panels pack_qkv(const Config& config, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t c = config.embed_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(config.head_dim()));
  const auto scaled = [&](const at::Tensor& x) {  // [3 * C, ...]
    return at::cat({x.narrow(0, 0, c) * scale, x.narrow(0, c, 2 * c)});
  };
  return {scaled(weight), scaled(bias)};
}

}  // namespace

Weights::Weights(const Config& config, const Parameter& parameter)
    : patch_embed(pack(parameter, "patch_embed.proj")), norm(cpu::norm(parameter, "norm")) {
  const int64_t p = config.prefix();
  const auto pos_embed = parameter("pos_embed").select(0, 0);
  positions = pos_embed.slice(0, p).clone();
  prefix = parameter("cls_token").select(0, 0);
  auto head_weight = parameter("head.weight");
  auto head_bias = parameter("head.bias");
  if (config.distilled) {
    prefix = at::cat({prefix, parameter("dist_token").select(0, 0)});
    head_weight = at::cat({head_weight, parameter("head_dist.weight")}, 1) / 2;
    head_bias = (head_bias + parameter("head_dist.bias")) / 2;
  }
  prefix = prefix + pos_embed.slice(0, 0, p);
  head = Panels(head_weight, head_bias);
  for (int64_t i = 0; i < config.depth; ++i) {
    const auto name = "blocks." + std::to_string(i) + ".";
    blocks.push_back(
        {cpu::norm(parameter, name + "norm1"), cpu::norm(parameter, name + "norm2"),
         pack_qkv(config, parameter(name + "attn.qkv.weight"), parameter(name + "attn.qkv.bias")),
         pack(parameter, name + "attn.proj"), pack(parameter, name + "mlp.fc1"),
         pack(parameter, name + "mlp.fc2")});
  }
}

}  // namespace dsm_ext::cpu
