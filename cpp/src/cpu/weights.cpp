#include "cpu/weights.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace dsm_ext::cpu {
namespace {

class Packer {
 public:
  Packer(const Config& config, const ModelParameters& parameters, const Elements& elements)
      : config_(config), parameters_(parameters), kernel_(gemm_kernel(elements.layers)) {}

  at::Tensor find(const std::string& name) const {
    const auto tensor = parameters_.find(name);
    return tensor.defined() ? tensor.to(at::kFloat) : tensor;
  }

  Panels linear(const std::string& name, const GemmKernel& kernel) const {
    return {kernel, find(name + ".weight").flatten(1), find(name + ".bias")};
  }

  // Packs a linear layer. If the model has LayerScale after it, multiplies LayerScale's factors
  // into the layer's weight and bias.
  Panels scaled_linear(const std::string& name, const std::string& scale) const {
    const auto gamma = find(scale + ".gamma");
    if (!gamma.defined()) {
      return linear(name, kernel_);
    }
    const auto bias = find(name + ".bias");
    return {
        kernel_, find(name + ".weight") * gamma.unsqueeze(1), bias.defined() ? bias * gamma : bias};
  }

  Norm norm(const std::string& name) const {
    const auto copy = [&](const std::string& parameter) {
      const auto x = parameters_.find(parameter);
      return x.defined() ? x.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true) : x;
    };
    return {copy(name + ".weight"), copy(name + ".bias")};
  }

  BlockWeights block(const std::string& name) const {
    BlockWeights block;
    block.norm1 = norm(name + "norm1");
    block.norm2 = norm(name + "norm2");
    block.q_norm = norm(name + "attn.q_norm");
    block.k_norm = norm(name + "attn.k_norm");
    block.attn_norm = norm(name + "attn.norm");
    block.mlp_norm = norm(name + "mlp.norm");
    block.qkv = linear(name + "attn.qkv", kernel_);
    block.proj = scaled_linear(name + "attn.proj", name + "ls1");
    mlp(block, name, config_.mlp_layer);
    return block;
  }

  PoolWeights pool() const {
    const std::string name = "attn_pool.";
    PoolWeights pool;
    pool.q =
        at::linear(find(name + "latent"), find(name + "q.weight"), find(name + "q.bias")).flatten();
    pool.block.qkv = linear(name + "kv", kernel_);
    pool.block.proj = linear(name + "proj", kernel_);
    pool.block.norm2 = norm(name + "norm");
    mlp(pool.block, name, MlpKind::mlp);
    for (auto* panels : {&pool.block.proj, &pool.block.fc1, &pool.block.fc2}) {
      panels->sum_few_rows();
    }
    return pool;
  }

 private:
  void mlp(BlockWeights& block, const std::string& name, MlpKind kind) const {
    const auto fc = [&](const char* layer) { return find(name + "mlp." + layer); };
    block.gated = kind != MlpKind::mlp;
    if (kind == MlpKind::swiglu) {
      block.fc1 = Panels::gated(
          kernel_, fc("fc1_g.weight"), fc("fc1_g.bias"), fc("fc1_x.weight"), fc("fc1_x.bias"));
    } else if (kind == MlpKind::glu) {
      const auto weight = fc("fc1.weight").chunk(2);
      const auto bias = fc("fc1.bias");
      const auto biases = bias.defined() ? bias.chunk(2) : std::vector<at::Tensor>(2);
      block.fc1 = Panels::gated(kernel_, weight[0], biases[0], weight[1], biases[1]);
    } else {
      block.fc1 = linear(name + "mlp.fc1", kernel_);
    }
    block.fc2 = scaled_linear(name + "mlp.fc2", name + "ls2");
  }

  const Config& config_;
  const ModelParameters& parameters_;
  const GemmKernel& kernel_;
};

}  // namespace

Weights::Weights(const Config& config, const ModelParameters& parameters, const Elements& elements_)
    : elements(elements_) {
  const Packer pack(config, parameters, elements);
  const int64_t p = config.prefix();
  patch_embed = pack.linear("patch_embed.proj", gemm_kernel(elements.patch_embed));
  std::vector<at::Tensor> tokens = {at::empty({0, config.embed_dim}, at::kFloat)};
  for (const char* name : {"cls_token", "dist_token", "reg_token"}) {
    if (const auto token = pack.find(name); token.defined()) {
      tokens.push_back(token.select(0, 0));
    }
  }
  prefix = at::cat(tokens);
  if (config.pos_embed) {
    const auto pos_embed = pack.find("pos_embed").select(0, 0);
    const int64_t own = config.no_embed_class ? 0 : p;
    positions = pos_embed.slice(0, own).clone();
    if (own > 0) {
      prefix += pos_embed.slice(0, 0, own);
    }
  }
  embed_norm = pack.norm("patch_embed.norm");
  norm_pre = pack.norm("norm_pre");
  for (int64_t i = 0; i < config.depth; ++i) {
    blocks.push_back(pack.block("blocks." + std::to_string(i) + "."));
  }
  norm = pack.norm("norm");
  fc_norm = pack.norm("fc_norm");
  if (config.global_pool == Pool::map) {
    pool = pack.pool();
  }
  if (config.distilled && config.num_classes > 0) {
    const auto biases = pack.find("head.bias").defined()
                            ? (pack.find("head.bias") + pack.find("head_dist.bias")) / 2
                            : at::Tensor();
    head = Panels(
        gemm_kernel(elements.head),
        at::cat({pack.find("head.weight"), pack.find("head_dist.weight")}, 1) / 2, biases);
  } else if (config.num_classes > 0) {
    head = pack.linear("head", gemm_kernel(elements.head));
  }
  if (config.num_classes > 0) {
    head.sum_few_rows();
  }
}

}  // namespace dsm_ext::cpu
