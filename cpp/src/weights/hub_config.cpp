#include "hub_config.h"

#include <algorithm>
#include <set>

#include "architectures.h"
#include "config_json.h"
#include "infer_config.h"
#include "json.h"

namespace dsm_ext {

using Json = nlohmann::json;

namespace {

constexpr int64_t kMostSide = 1 << 16;  // pixels, the limit of `Config::validate`

// The config fields in "model_args", the arguments with which timm built the model. Only fields
// that weights do not show are taken: the weights give the others.
Json fields_of(const std::string& path, const Json& arguments) {
  static const std::set<std::string> taken = {
      "num_heads",           "dynamic_img_size", "global_pool",
      "pool_include_prefix", "rope_temperature", "rope_grid_offset",
      "rope_grid_indexing",  "rope_rotate_half", "attn_pool_num_heads"};
  static const std::set<std::string> pairs = {"img_size", "ref_feat_shape"};  // or one number
  static const std::set<std::string> passed_over = {
      "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "mlp_ratio", "qkv_bias",
      "qk_norm", "proj_bias", "scale_attn_norm", "scale_mlp_norm", "init_values", "class_token",
      "pos_embed", "no_embed_class", "reg_tokens", "pre_norm", "final_norm", "fc_norm",
      // of Eva
      "qkv_fused", "attn_type", "swiglu_mlp", "swiglu_align_to", "scale_mlp", "scale_attn_inner",
      "attn_only_layer_scale", "num_reg_tokens", "use_abs_pos_emb", "use_pre_transformer_norm",
      "use_post_transformer_norm", "use_fc_norm", "attn_pool_mlp_ratio",
      // these concern training or timm's own checks
      "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate",
      "drop_path_rate", "weight_init", "fix_init", "strict_img_size", "head_init_scale",
      "rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords"};
  Json fields = Json::object();
  for (const auto& [name, value] : arguments.items()) {
    if (value.is_null() || passed_over.count(name)) {
      continue;
    }
    if (pairs.count(name)) {
      fields[name] = value.is_array() ? value : Json::array({value, value});
    } else if (taken.count(name)) {
      fields[name] = value;
    } else {
      fail(path, "its model_args field " + quoted(name) + " is not supported");
    }
  }
  return fields;
}

bool starts_with(const std::string& name, const char* prefix) { return name.rfind(prefix, 0) == 0; }

// Removes tensors that timm passes over: tables of a rotary embedding, which are computed here, and
// parts that only the pretraining of EVA-02 uses. After that pretraining, the last norm becomes the
// norm of the pooled token, as in timm.
void take_as_timm(NamedTensors& weights) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : weights) {
    names.insert(name);
  }
  const bool eva =
      names.count("blocks.0.attn.q_bias") || names.count("blocks.0.attn.q_proj.weight");
  const bool pretraining = eva && names.count("mask_token");
  const bool pooled_norm = names.count("fc_norm.weight") > 0;
  const auto unused = [&](const auto& named) {
    const auto& name = named.first;
    return (starts_with(name, "rope.") && name != "rope.freqs") ||
           (pretraining && (name == "mask_token" || starts_with(name, "lm_head.")));
  };
  weights.erase(std::remove_if(weights.begin(), weights.end(), unused), weights.end());
  for (auto& [name, tensor] : weights) {
    if (pretraining && !pooled_norm && starts_with(name, "norm.")) {
      name.insert(0, "fc_");
    }
  }
}

}  // namespace

const Json& pretrained_in(const std::string& path, const Json& json) {
  return json.contains("pretrained_cfg") ? object_in(path, json, "pretrained_cfg") : json;
}

Config hub_config(
    const std::string& path, const Json& json, const std::string& weights_path,
    NamedTensors& weights) {
  const auto name = find_field<std::string>(path, json, "architecture");
  if (!name) {
    fail(
        path, json.contains("model_type")
                  ? "it is of a transformers checkpoint; in Python, export what "
                    "dsm_ext.from_transformers makes of it"
                  : "there is neither an 'architecture' of timm's nor a section 'dsm_ext'");
  }
  auto config = architecture_config(*name);
  if (!config) {
    fail(
        path, "the architecture " + quoted(*name) +
                  " is not one of the supported Vision Transformers of timm " +
                  architectures_timm());
  }
  const auto& pretrained = pretrained_in(path, json);
  if (const auto size = find_field<std::array<int64_t, 3>>(path, pretrained, "input_size")) {
    config->img_size = {(*size)[1], (*size)[2]};
  }
  for (const auto* source :
       {&pretrained, &json}) {  // the top level comes last and wins, as in timm
    if (const auto pool = find_field<std::string>(path, *source, "global_pool")) {
      set_fields(path, {{"global_pool", *pool}}, *config);
    }
  }
  set_fields(path, fields_of(path, object_in(path, json, "model_args")), *config);
  for (const int64_t side : config->img_size) {
    if (side > kMostSide) {
      fail(path, "its images would be of " + std::to_string(side) + " pixels");
    }
  }
  take_as_timm(weights);
  check(path, *config = infer_config(weights_path, weights, *config));
  return *config;
}

}  // namespace dsm_ext
