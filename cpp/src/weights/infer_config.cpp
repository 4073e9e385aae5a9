#include "infer_config.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <map>

#include "json.h"

namespace dsm_ext {
namespace {

// The shapes of the weights, by name.
class Shapes {
 public:
  Shapes(const std::string& path, const NamedTensors& weights)
      : path_(path), shapes_(weights.begin(), weights.end()) {}

  bool has(const std::string& name) const { return shapes_.count(name) > 0; }

  // The length of one axis of a weight, which must have this rank.
  int64_t length(const std::string& name, int64_t rank, int64_t axis) const {
    const auto found = shapes_.find(name);
    if (found == shapes_.end()) {
      fail(path_, "there is no tensor '" + name + "', as timm's Vision Transformers have");
    }
    if (found->second.dim() != rank) {
      fail(
          path_, "tensor '" + name + "' has " + std::to_string(found->second.dim()) +
                     " dimensions, expected " + std::to_string(rank));
    }
    return found->second.size(axis);
  }

  // The number of blocks: the largest index in names that begin with "blocks.", plus 1.
  int64_t blocks() const {
    int64_t count = 0;
    for (const auto& [name, tensor] : shapes_) {
      int64_t index = 0;
      if (std::sscanf(name.c_str(), "blocks.%5" SCNd64 ".", &index) == 1) {
        count = std::max(count, index + 1);
      }
    }
    return count;
  }

 private:
  const std::string& path_;
  std::map<std::string, at::Tensor> shapes_;
};

// Which of queries, keys and values have a bias, and whether one layer makes all three.
void infer_qkv(const Shapes& shapes, Config& c) {
  const std::string attn = "blocks.0.attn.";
  c.qkv_fused = !shapes.has(attn + "q_proj.weight");
  const bool together = shapes.has(attn + "qkv.bias");
  c.qkv_bias = together || shapes.has(attn + "q_bias") || shapes.has(attn + "q_proj.bias");
  c.k_bias = !c.qkv_bias || together || shapes.has(attn + "k_proj.bias");
}

void infer_sequential(const Shapes& shapes, Config& c) {
  const std::string block = "blocks.0.";
  // In timm only Eva has a rotary embedding. Without one, its blocks have other names than `Block`.
  const bool eva = c.rope_type != RopeType::none || shapes.has(block + "gamma_1") ||
                   shapes.has(block + "attn.q_bias") || shapes.has(block + "attn.q_proj.weight");
  c.block = eva ? BlockKind::eva : BlockKind::sequential;
  c.norm_layer = shapes.has(block + "norm1.bias") ? NormKind::layer_norm : NormKind::rms_norm;
  c.mlp_dim = shapes.length(block + "mlp.fc2.weight", 2, 1);
  if (shapes.has(block + "mlp.fc1_g.weight")) {
    c.mlp_layer = MlpKind::swiglu;
  } else {
    const bool gated = shapes.length(block + "mlp.fc1.weight", 2, 0) == 2 * c.mlp_dim;
    c.mlp_layer = gated ? MlpKind::glu : MlpKind::mlp;
  }
  const bool attn_scale = shapes.has(block + "gamma_1");
  c.layer_scale = attn_scale || shapes.has(block + "ls1.gamma");
  c.attn_only_layer_scale = attn_scale && !shapes.has(block + "gamma_2");
  infer_qkv(shapes, c);
  c.qk_norm = shapes.has(block + "attn.q_norm.weight");
  c.scale_attn_norm = shapes.has(block + "attn.norm.weight");
  c.scale_mlp_norm = shapes.has(block + "mlp.norm.weight");
  c.proj_bias = shapes.has(block + "attn.proj.bias");
}

void infer_parallel(const Shapes& shapes, Config& c) {
  const std::string block = "blocks.0.";
  c.block = BlockKind::parallel;
  c.norm_layer = shapes.has(block + "in_norm.bias") ? NormKind::layer_norm : NormKind::rms_norm;
  c.mlp_dim = shapes.length(block + "mlp_out_proj.weight", 2, 1);
  c.mlp_layer = MlpKind::mlp;
  c.layer_scale = shapes.has(block + "ls.gamma");
  c.qk_norm = shapes.has(block + "q_norm.weight");
  c.scale_attn_norm = c.scale_mlp_norm = false;
  c.qkv_bias = shapes.has(block + "in_proj.bias");
  c.proj_bias = shapes.has(block + "attn_out_proj.bias");
}

}  // namespace

Config infer_config(const std::string& path, const NamedTensors& weights, Config c) {
  const Shapes shapes(path, weights);
  const std::string patches = "patch_embed.proj.weight";
  c.embed_dim = shapes.length(patches, 4, 0);
  c.in_chans = shapes.length(patches, 4, 1);
  c.patch_size = {shapes.length(patches, 4, 2), shapes.length(patches, 4, 3)};
  for (const int64_t side : c.patch_size) {
    if (side == 0) {
      fail(path, "tensor '" + patches + "' is empty");
    }
  }
  c.patch_bias = shapes.has("patch_embed.proj.bias");
  c.embed_norm = shapes.has("patch_embed.norm.weight");

  c.class_token = shapes.has("cls_token");
  c.distilled = shapes.has("dist_token");
  c.reg_tokens = shapes.has("reg_token") ? shapes.length("reg_token", 3, 1) : 0;
  c.pos_embed = shapes.has("pos_embed");
  c.no_embed_class =
      c.pos_embed && c.prefix() > 0 && shapes.length("pos_embed", 3, 1) == c.patches();

  c.pre_norm = shapes.has("norm_pre.weight");
  c.depth = shapes.blocks();
  if (shapes.has("rope.freqs")) {
    c.rope_type = RopeType::mixed;
  }
  if (shapes.has("blocks.0.in_proj.weight")) {
    infer_parallel(shapes, c);
  } else {
    infer_sequential(shapes, c);
  }
  c.final_norm = shapes.has("norm.weight");
  c.fc_norm = shapes.has("fc_norm.weight");
  if (shapes.has("attn_pool.latent")) {
    c.global_pool = Pool::map;
    const int64_t width = shapes.length("attn_pool.mlp.fc2.weight", 2, 1);
    c.attn_pool_mlp_dim = width == c.mlp_dim ? 0 : width;
  }
  if (c.block == BlockKind::eva) {  // timm's Eva pools all tokens by attention
    c.pool_include_prefix = c.global_pool == Pool::map;
  }
  c.num_classes = shapes.has("head.weight") ? shapes.length("head.weight", 2, 0) : 0;
  c.head_bias = c.num_classes == 0 || shapes.has("head.bias");
  return c;
}

}  // namespace dsm_ext
