#include "dsm_ext/config.h"

#include <c10/util/Exception.h>

#include <cmath>
#include <vector>

#include "config_fields.h"
#include "dsm_ext/preprocessing.h"

namespace dsm_ext {
namespace {

// The names of an enumeration's values, in the order of the enumerators.
const std::vector<std::string>& names(Activation) {
  static const std::vector<std::string> all = {"gelu", "gelu_tanh", "quick_gelu", "silu"};
  return all;
}
const std::vector<std::string>& names(NormKind) {
  static const std::vector<std::string> all = {"layer_norm", "rms_norm"};
  return all;
}
const std::vector<std::string>& names(MlpKind) {
  static const std::vector<std::string> all = {"mlp", "glu", "swiglu"};
  return all;
}
const std::vector<std::string>& names(Pool) {
  static const std::vector<std::string> all = {"", "token", "avg", "map"};
  return all;
}
const std::vector<std::string>& names(BlockKind) {
  static const std::vector<std::string> all = {"sequential", "parallel", "eva"};
  return all;
}
const std::vector<std::string>& names(RopeType) {
  static const std::vector<std::string> all = {"", "cat", "dinov3", "mixed"};
  return all;
}
const std::vector<std::string>& names(GridIndexing) {
  static const std::vector<std::string> all = {"ij", "xy"};
  return all;
}
const std::vector<std::string>& names(Interpolation) {
  static const std::vector<std::string> all = {"bicubic", "bilinear"};
  return all;
}
const std::vector<std::string>& names(CropMode) {
  static const std::vector<std::string> all = {"center", "squash", "border"};
  return all;
}

void within(const char* name, int64_t value, int64_t least, int64_t most) {
  TORCH_CHECK_VALUE(
      value >= least && value <= most, "dsm_ext.Config: expected ", name, " to be in [", least,
      ", ", most, "], got ", value);
}

void validate_attention(const Config& c) {
  within("num_kv_heads", c.num_kv_heads, 0, c.num_heads);
  within("num_full_attn_blocks", c.num_full_attn_blocks, 0, c.depth);
  TORCH_CHECK_VALUE(
      c.num_kv_heads == 0 || (c.num_heads % c.num_kv_heads == 0 && !c.qkv_fused),
      "dsm_ext.Config: expected num_kv_heads to divide num_heads = ", c.num_heads,
      " and to go with qkv_fused=False, got ", c.num_kv_heads);
  TORCH_CHECK_VALUE(
      c.layer_scale || !c.attn_only_layer_scale,
      "dsm_ext.Config: expected attn_only_layer_scale to go with layer_scale=True");
  within("attn_pool_num_heads", c.attn_pool_num_heads, 0, 1 << 16);
  within("attn_pool_mlp_dim", c.attn_pool_mlp_dim, 0, 1 << 18);
  TORCH_CHECK_VALUE(
      c.embed_dim % c.pool_heads() == 0,
      "dsm_ext.Config: expected embed_dim to be a multiple of attn_pool_num_heads = ",
      c.pool_heads(), ", got ", c.embed_dim);
}

void validate_rope(const Config& c) {
  if (c.rope_type == RopeType::none) {
    return;
  }
  const auto finite = [](const char* name, double value, bool valid) {
    TORCH_CHECK_VALUE(
        valid && std::isfinite(value), "dsm_ext.Config: ", name, " cannot be ", value);
  };
  TORCH_CHECK_VALUE(
      c.head_dim() % 4 == 0,
      "dsm_ext.Config: expected the head size embed_dim / num_heads to be a multiple of 4 for a "
      "rotary position embedding, got ",
      c.head_dim());
  finite("rope_temperature", c.rope_temperature, c.rope_temperature > 0);
  finite("rope_grid_offset", c.rope_grid_offset, true);
  const auto [height, width] = c.ref_feat_shape;
  within("ref_feat_shape", height, 0, 1 << 16);
  within("ref_feat_shape", width, 0, 1 << 16);
  TORCH_CHECK_VALUE(
      (height == 0) == (width == 0) && (height == 0 || c.rope_type == RopeType::cat),
      "dsm_ext.Config: expected ref_feat_shape to be a height and a width for rope_type='cat', or "
      "(0, 0), got (",
      height, ", ", width, ")");
  TORCH_CHECK_VALUE(
      c.rope_type != RopeType::mixed || (!c.rope_rotate_half && c.num_kv_heads == 0),
      "dsm_ext.Config: expected rope_type='mixed' to go with rope_rotate_half=False and without "
      "num_kv_heads");
}

}  // namespace

template <typename Enum>
std::string name_of(Enum value) {
  return names(value)[static_cast<size_t>(value)];
}

template <typename Enum>
Enum value_of(const char* field, const std::string& name, const char* owner) {
  const auto& all = names(Enum());
  std::string choice;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] == name) {
      return static_cast<Enum>(i);
    }
    choice += (i == 0 ? "'" : ", '") + all[i] + "'";
  }
  TORCH_CHECK_VALUE(
      false, "dsm_ext.", owner, ": expected ", field, " to be one of ", choice, ", got '", name,
      "'");
}

#define DSM_EXT_NAMED(Enum)                             \
  template DSM_EXT_API std::string name_of(Enum value); \
  template DSM_EXT_API Enum value_of(const char* field, const std::string& name, const char* owner);
DSM_EXT_NAMED(Activation)
DSM_EXT_NAMED(NormKind)
DSM_EXT_NAMED(MlpKind)
DSM_EXT_NAMED(Pool)
DSM_EXT_NAMED(BlockKind)
DSM_EXT_NAMED(RopeType)
DSM_EXT_NAMED(GridIndexing)
DSM_EXT_NAMED(Interpolation)
DSM_EXT_NAMED(CropMode)
#undef DSM_EXT_NAMED

void Config::validate() const {
  // The limits are far above the sizes of real models. They keep the counts of tokens, weights and
  // multiply-adds from overflowing.
  for (const int axis : {0, 1}) {
    within("img_size", img_size[axis], 1, 1 << 16);
    within("patch_size", patch_size[axis], 1, 1 << 16);
  }
  within("in_chans", in_chans, 1, 1 << 12);
  within("num_classes", num_classes, 0, 1 << 24);
  within("embed_dim", embed_dim, 1, 1 << 16);
  within("depth", depth, 1, 1 << 8);
  within("num_heads", num_heads, 1, 1 << 16);
  within("mlp_dim", mlp_dim, 1, 1 << 18);
  within("reg_tokens", reg_tokens, 0, 1 << 16);
  TORCH_CHECK_VALUE(
      eps > 0 && std::isfinite(eps), "dsm_ext.Config: expected eps to be positive and finite, got ",
      eps);
  TORCH_CHECK_VALUE(
      grid()[0] > 0 && grid()[1] > 0, "dsm_ext.Config: expected img_size to hold a patch of ",
      patch_size[0], " x ", patch_size[1], " pixels, got ", img_size[0], " x ", img_size[1]);
  within("the tokens of an image", tokens(), 1, 1 << 18);
  TORCH_CHECK_VALUE(
      embed_dim % num_heads == 0,
      "dsm_ext.Config: expected embed_dim to be a multiple of num_heads = ", num_heads, ", got ",
      embed_dim);
  TORCH_CHECK_VALUE(
      class_token || global_pool != Pool::token,
      "dsm_ext.Config: expected a class token for global_pool='token'");
  TORCH_CHECK_VALUE(
      !distilled || (class_token && reg_tokens == 0 && global_pool == Pool::token && !fc_norm),
      "dsm_ext.Config: expected a distilled model to pool its class and distillation tokens, with "
      "no registers and no fc_norm");
  TORCH_CHECK_VALUE(
      global_pool != Pool::none || (num_classes == 0 && !fc_norm),
      "dsm_ext.Config: expected global_pool='' to go with num_classes=0 and without fc_norm");
  TORCH_CHECK_VALUE(
      block != BlockKind::parallel ||
          (mlp_layer == MlpKind::mlp && !scale_attn_norm && !scale_mlp_norm),
      "dsm_ext.Config: expected parallel blocks to have a plain MLP and no scaling norms");
  TORCH_CHECK_VALUE(
      block != BlockKind::parallel || (rope_type == RopeType::none && qkv_fused && k_bias &&
                                       num_kv_heads == 0 && !attn_only_layer_scale),
      "dsm_ext.Config: expected parallel blocks to have no rotary embedding, one layer for "
      "queries, "
      "keys and values, and LayerScale in both branches or none");
  validate_attention(*this);
  validate_rope(*this);
}

}  // namespace dsm_ext
