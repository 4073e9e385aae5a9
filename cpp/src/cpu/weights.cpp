#include "cpu/weights.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <numeric>

#include "model/rotary.h"

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

  // Packs a linear layer. If the model has LayerScale after it, whose parameter is `scale`,
  // multiplies LayerScale's factors into the layer's weight and bias.
  Panels scaled_linear(const std::string& name, const std::string& scale) const {
    const auto gamma = find(scale);
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

  BlockWeights block(int64_t index) const {
    const std::string name = "blocks." + std::to_string(index) + ".";
    BlockWeights block;
    block.norm1 = norm(name + "norm1");
    block.norm2 = norm(name + "norm2");
    block.q_norm = norm(name + "attn.q_norm");
    block.k_norm = norm(name + "attn.k_norm");
    block.attn_norm = norm(name + "attn.norm");
    block.mlp_norm = norm(name + "mlp.norm");
    block.kv_heads = config_.kv_heads(index);
    block.qkv = qkv(name + "attn.", block.kv_heads);
    for (auto* head_norm : {&block.q_norm, &block.k_norm}) {
      head_norm->weight = in_pairs(head_norm->weight, 1);
      head_norm->bias = in_pairs(head_norm->bias, 1);
    }
    block.proj = scaled_linear(name + "attn.proj", name + (eva() ? "gamma_1" : "ls1.gamma"));
    mlp(block, name, config_.mlp_layer);
    return block;
  }

  at::Tensor frequencies() const {
    if (config_.rope_type == RopeType::none) {
      return {};
    }
    const auto learned = find("rope.freqs");
    const auto pairs =
        (learned.defined() ? learned : rope_frequencies(config_).unsqueeze(1)).flatten(2);
    return pairs.repeat({1, 1, std::lcm(pairs.size(2), kPairs) / pairs.size(2)});
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
  bool eva() const { return config_.block == BlockKind::eva; }

  // Queries, keys and values of a block as one layer.
  Panels qkv(const std::string& name, int64_t kv_heads) const {
    const int64_t q = config_.embed_dim, kv = kv_heads * config_.head_dim();
    const auto parts = [&](const std::string& whole, const std::string& suffix) {
      const auto fused = find(name + "qkv." + suffix);
      if (fused.defined()) {
        return fused.split_with_sizes({q, kv, kv});
      }
      return std::vector{
          find(name + "q" + whole + suffix), find(name + "k" + whole + suffix),
          find(name + "v" + whole + suffix)};
    };
    auto weights = parts("_proj.", "weight");
    auto biases =
        config_.qkv_fused && !config_.k_bias ? parts("_", "bias") : parts("_proj.", "bias");
    at::Tensor bias;
    if (biases[0].defined()) {
      if (!biases[1].defined()) {
        biases[1] = at::zeros({kv}, at::kFloat);
      }
      bias = at::cat(
          {in_pairs(biases[0], config_.num_heads), in_pairs(biases[1], kv_heads), biases[2]});
    }
    return {
        kernel_,
        at::cat(
            {in_pairs(weights[0], config_.num_heads), in_pairs(weights[1], kv_heads), weights[2]}),
        bias};
  }

  // Reorders the outputs of each head, x [heads * D, ...], as rotation.h describes.
  at::Tensor in_pairs(const at::Tensor& x, int64_t heads) const {
    if (config_.rope_type == RopeType::none || !x.defined()) {
      return x;
    }
    const int64_t width = pair_width(config_.head_dim());
    const auto pairs = config_.rope_rotate_half
                           ? x.unflatten(0, {heads, 2, -1, width}).transpose(1, 2)
                           : x.unflatten(0, {heads, -1, width, 2}).transpose(2, 3);
    return pairs.flatten(0, 3);
  }

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
    block.fc2 = scaled_linear(name + "mlp.fc2", name + (eva() ? "gamma_2" : "ls2.gamma"));
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
    blocks.push_back(pack.block(i));
  }
  frequencies = pack.frequencies();
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
