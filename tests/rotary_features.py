"""The features of timm's ``Eva`` that we support, as arguments of ``small_eva``."""

from functools import partial

from timm.layers import LayerNorm, RmsNorm

_NO_POSITIONS = {"use_abs_pos_emb": False}
_DINOV3 = _NO_POSITIONS | {
    "rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True,
    "num_reg_tokens": 4, "init_values": 0.2, "use_fc_norm": False,
    "norm_layer": partial(LayerNorm, eps=1e-5),
}  # fmt: skip
ROTARY = {
    "EVA": {"use_rot_pos_emb": False},
    "EVA-02": {
        "ref_feat_shape": (16, 16), "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True,
    },
    "EVA-02 with one layer for queries, keys and values": {
        "ref_feat_shape": (16, 16), "swiglu_mlp": True,
    },
    "EVA-02-CLIP": {
        "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True,
        "global_pool": "token",
    },
    "DINOv3": _DINOV3 | {"qkv_bias": False},
    "DINOv3 with a gated MLP and no head": _DINOV3 | {
        "swiglu_mlp": True, "swiglu_align_to": 8, "num_classes": 0,
    },
    "Perception Encoder": {
        "attn_type": "rope", "rope_grid_offset": 1.0, "rope_grid_indexing": "xy",
        "ref_feat_shape": (14, 14), "init_values": 0.1, "use_pre_transformer_norm": True,
        "global_pool": "map", "attn_pool_num_heads": 4, "attn_pool_mlp_ratio": 2.0,
    },
    "RoPE-ViT": _NO_POSITIONS | {
        "attn_type": "rope", "rope_temperature": 100.0, "rope_grid_indexing": "xy",
        "use_fc_norm": False, "global_pool": "token",
    },
    "RoPE-ViT with mixed axes": {
        "attn_type": "rope", "rope_type": "mixed", "rope_grid_indexing": "xy",
        "global_pool": "token", "init_values": 0.1,
    },
    "Sapiens2": _DINOV3 | {
        "attn_type": "rope", "qkv_fused": False, "num_kv_heads": (4, 2, 2, 4), "num_heads": 4,
        "qk_norm": True, "attn_only_layer_scale": True, "swiglu_mlp": True, "num_reg_tokens": 8,
        "norm_layer": partial(RmsNorm, eps=1e-6), "global_pool": "token",
    },
    "rotations without a prefix, on an oblong": _NO_POSITIONS | {
        "class_token": False, "img_size": (36, 60), "rope_temperature": 30.0, "qkv_bias": False,
    },
    "all of Eva": {
        "img_size": (60, 36), "in_chans": 4, "rope_type": "mixed", "num_reg_tokens": 3,
        "no_embed_class": True, "qkv_fused": False, "qk_norm": True, "scale_mlp": True,
        "scale_attn_inner": True, "init_values": 0.3, "use_pre_transformer_norm": True,
        "use_fc_norm": True, "use_post_transformer_norm": True, "global_pool": "map",
        "embed_dim": 48, "num_heads": 4,
    },
}  # fmt: skip
