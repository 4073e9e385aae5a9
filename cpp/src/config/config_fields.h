#pragma once

#include <string>
#include <type_traits>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// Calls `visit(name, value)` for each field of a config, in the order of the struct.
template <typename AConfig, typename Visit>
void for_each_field(AConfig& c, const Visit& visit) {
  visit("img_size", c.img_size);
  visit("patch_size", c.patch_size);
  visit("in_chans", c.in_chans);
  visit("num_classes", c.num_classes);
  visit("embed_dim", c.embed_dim);
  visit("depth", c.depth);
  visit("num_heads", c.num_heads);
  visit("mlp_dim", c.mlp_dim);
  visit("class_token", c.class_token);
  visit("distilled", c.distilled);
  visit("reg_tokens", c.reg_tokens);
  visit("pos_embed", c.pos_embed);
  visit("no_embed_class", c.no_embed_class);
  visit("dynamic_img_size", c.dynamic_img_size);
  visit("block", c.block);
  visit("norm_layer", c.norm_layer);
  visit("eps", c.eps);
  visit("mlp_layer", c.mlp_layer);
  visit("act_layer", c.act_layer);
  visit("layer_scale", c.layer_scale);
  visit("attn_only_layer_scale", c.attn_only_layer_scale);
  visit("qk_norm", c.qk_norm);
  visit("scale_attn_norm", c.scale_attn_norm);
  visit("scale_mlp_norm", c.scale_mlp_norm);
  visit("qkv_fused", c.qkv_fused);
  visit("qkv_bias", c.qkv_bias);
  visit("k_bias", c.k_bias);
  visit("num_kv_heads", c.num_kv_heads);
  visit("num_full_attn_blocks", c.num_full_attn_blocks);
  visit("proj_bias", c.proj_bias);
  visit("patch_bias", c.patch_bias);
  visit("embed_norm", c.embed_norm);
  visit("pre_norm", c.pre_norm);
  visit("rope_type", c.rope_type);
  visit("rope_temperature", c.rope_temperature);
  visit("rope_grid_offset", c.rope_grid_offset);
  visit("rope_grid_indexing", c.rope_grid_indexing);
  visit("rope_rotate_half", c.rope_rotate_half);
  visit("ref_feat_shape", c.ref_feat_shape);
  visit("final_norm", c.final_norm);
  visit("global_pool", c.global_pool);
  visit("pool_include_prefix", c.pool_include_prefix);
  visit("attn_pool_num_heads", c.attn_pool_num_heads);
  visit("attn_pool_mlp_dim", c.attn_pool_mlp_dim);
  visit("fc_norm", c.fc_norm);
  visit("head_bias", c.head_bias);
}

/// The name of an enumerator. `Enum` is the type of a field of `Config` or `Preprocessing`.
template <typename Enum>
DSM_EXT_API std::string name_of(Enum value);

/// The enumerator that a name stands for.
/// \param field  The name of the field, for the message.
/// \param owner  The class that has the field, for the message.
/// \throws c10::ValueError for another name. The message lists the names that the field takes.
template <typename Enum>
DSM_EXT_API Enum value_of(const char* field, const std::string& name, const char* owner = "Config");

}  // namespace dsm_ext
