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
  static const std::vector<std::string> all = {"sequential", "parallel"};
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
DSM_EXT_NAMED(Interpolation)
DSM_EXT_NAMED(CropMode)
#undef DSM_EXT_NAMED

void Config::validate() const {
  const auto within = [](const char* name, int64_t value, int64_t least, int64_t most) {
    TORCH_CHECK_VALUE(
        value >= least && value <= most, "dsm_ext.Config: expected ", name, " to be in [", least,
        ", ", most, "], got ", value);
  };
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
      block == BlockKind::sequential ||
          (mlp_layer == MlpKind::mlp && !scale_attn_norm && !scale_mlp_norm),
      "dsm_ext.Config: expected parallel blocks to have a plain MLP and no scaling norms");
}

}  // namespace dsm_ext
