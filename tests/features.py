"""Every feature of timm's models that we support, as arguments of ``small`` or ``small_eva``."""

import timm
import torch
from models import small, small_eva
from rotary_features import ROTARY
from timm.layers import GELUTanh, GluMlp, QuickGELU, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import ParallelScalingBlock

REGISTERS = {"reg_tokens": 4, "no_embed_class": True}
AVERAGE = {"class_token": False, "global_pool": "avg"}
FEATURES = {
    "LayerScale": {"init_values": 0.1},
    "registers": {"reg_tokens": 4},
    "registers without positions": REGISTERS,
    "no_embed_class": {"no_embed_class": True},
    "no position embedding": {"pos_embed": "none"},
    "average pooling": AVERAGE,
    "average pooling, no fc_norm": AVERAGE | {"fc_norm": False},
    "average pooling beside a class token": {"global_pool": "avg"},
    "average pooling, prefix included": {
        "global_pool": "avg", "pool_include_prefix": True, "reg_tokens": 1,
    },
    "attention pooling": {"class_token": False, "global_pool": "map"},
    "attention pooling beside a class token": {"global_pool": "map", "act_layer": "gelu_tanh"},
    "attention pooling, prefix included": {
        "global_pool": "map", "pool_include_prefix": True, "reg_tokens": 2, "fc_norm": True,
    },
    "class token and fc_norm": {"fc_norm": True},
    "no norm at the end": {"final_norm": False},
    "pre-norm": {"pre_norm": True},
    "a norm of the patches": {"embed_norm_layer": timm.layers.LayerNorm, "reg_tokens": 1},
    "a norm of the patches without positions": {
        "embed_norm_layer": timm.layers.LayerNorm, "pos_embed": "none", "pre_norm": True,
    },
    "q/k norm": {"qk_norm": True},
    "norms in attention and MLP": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "no qkv bias": {"qkv_bias": False},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "RMS norm": {"norm_layer": RmsNorm, "qk_norm": True},
    "GELU by tanh": {"act_layer": GELUTanh},
    "QuickGELU": {"act_layer": QuickGELU},
    "SiLU": {"act_layer": torch.nn.SiLU},
    "SwiGLU": {"mlp_layer": SwiGLU, "act_layer": torch.nn.SiLU},
    "SwiGLU, an odd width": {"mlp_layer": SwiGLU, "act_layer": torch.nn.SiLU, "mlp_ratio": 2.6},
    "SwiGLU, packed": {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 5.5},
    "a GELU gate with its norm": {
        "mlp_layer": lambda *a, **k: GluMlp(*a, **k, gate_last=False),
        "scale_mlp_norm": True,
        "init_values": 0.2,
    },
    "parallel blocks": {"block_fn": ParallelScalingBlock},
    "parallel blocks, all else": {
        "block_fn": ParallelScalingBlock, "qk_norm": True, "init_values": 0.3, "qkv_bias": False,
        "norm_layer": RmsNorm, "pre_norm": True, **AVERAGE,
    },
    "no head": {"num_classes": 0},
    "no head, average": AVERAGE | {"num_classes": 0},
    "no head, attention pooling": {"num_classes": 0, "global_pool": "map", "class_token": False},
    "no head, all tokens": {"num_classes": 0, "global_pool": "", "reg_tokens": 1},
    "heads of 128": {"embed_dim": 128, "num_heads": 1},
    "heads of 88": {"embed_dim": 88, "num_heads": 1},
    "heads of 8": {"num_heads": 4},
    "another eps": {"norm_layer": lambda c, **k: timm.layers.LayerNorm(c, eps=1e-3, **k)},
    "one channel": {"in_chans": 1},
    "five channels": {"in_chans": 5},
    "a rectangle that no window divides": {"img_size": (36, 60)},
    "DINOv2 with registers": REGISTERS | {"init_values": 1e-2, "num_classes": 0},
    "DINOv2 giant": {
        "init_values": 1e-2, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU,
        "mlp_ratio": 5.33, "num_classes": 0,
    },
    "CLIP": {"pre_norm": True, "act_layer": QuickGELU},
    "SigLIP": {
        "class_token": False, "global_pool": "map", "act_layer": GELUTanh, "num_classes": 0,
    },
    "AIMv2": AVERAGE | {
        "mlp_layer": SwiGLU, "act_layer": torch.nn.SiLU, "norm_layer": RmsNorm, "qkv_bias": False,
        "proj_bias": False, "fc_norm": False, "mlp_ratio": 2.75, "num_classes": 0,
        "embed_norm_layer": RmsNorm,
    },
    "everything": {
        "reg_tokens": 3, "no_embed_class": True, "global_pool": "map", "fc_norm": True,
        "pre_norm": True, "init_values": 0.1, "qk_norm": True, "scale_attn_norm": True,
        "scale_mlp_norm": True, "qkv_bias": False, "mlp_layer": SwiGLU, "norm_layer": RmsNorm,
        "act_layer": QuickGELU, "in_chans": 4, "img_size": (36, 60),
    },
}  # fmt: skip
FEATURES |= ROTARY


def build(name, **kwargs):
    """A small model with this feature."""
    arguments = {"num_heads": 2} | FEATURES[name] | kwargs
    if name not in ROTARY:
        return small(**arguments)
    if arguments.get("depth", 4) < 4 and "num_kv_heads" in arguments:
        arguments["num_kv_heads"] = 2  # in every block
    return small_eva(**arguments)
