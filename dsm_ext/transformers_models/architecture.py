"""The timm model that computes what a vision model of transformers computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from timm.layers import GELU, GELUTanh, LayerNorm, Mlp, QuickGELU, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dsm_ext.transformers_models.config import VisionConfig
from dsm_ext.transformers_models.names import TEACHER

_ACTIVATIONS = {"gelu": GELU, "quick_gelu": QuickGELU, "gelu_pytorch_tanh": GELUTanh}


class Architecture(NamedTuple):
    """The timm model for the weights: what makes it, such as a class, and keyword arguments."""

    model: Callable[..., nn.Module]
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        """Make the model in eval mode, with random weights."""
        return self.model(**self.arguments).eval()


def architecture_of(
    config: VisionConfig, state: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> Architecture:
    """The timm model for a config and its tensors.

    Args:
        config: the image model's.
        state: the tensors by transformers' names.
        given: the tensors by timm's names.
    """
    channels, hidden = config.hidden_size, config.intermediate_size
    if config.kind in ("dinov2", "dinov2_with_registers") and config.gated:
        hidden *= 2  # timm's packed MLP counts the width of both halves together
    ratio = hidden / channels  # timm computes int(channels * ratio)
    norm = RmsNorm if config.kind == "aimv2_vision_model" else LayerNorm
    common = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.num_channels,
        "num_classes": _classes(given),
        "embed_dim": channels,
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "mlp_ratio": ratio if int(channels * ratio) == hidden else (hidden + 0.5) / channels,
        "norm_layer": partial(norm, eps=config.layer_norm_eps),
        "qkv_bias": bool(config.biases & {"q", "k", "v"}),
        "init_values": 1e-5 if "dino" in config.kind else None,  # a value makes a LayerScale
        "global_pool": _pool(config, given),
    }
    if config.kind == "dinov3_vit":
        return Architecture(Eva, common | _eva(config))
    teacher = TEACHER & state.keys()
    model = VisionTransformerDistilled if teacher else VisionTransformer
    registers = 1 if config.kind == "deit" and not teacher else config.num_register_tokens
    gated_mlp = SwiGLU if config.kind == "aimv2_vision_model" else SwiGLUPacked
    return Architecture(
        model,
        common
        | {
            "class_token": config.traits.class_token,
            "mlp_layer": gated_mlp if config.gated else Mlp,
            "act_layer": nn.SiLU if config.gated else _ACTIVATIONS[config.hidden_act],
            "proj_bias": bool(config.biases & {"proj", "mlp"}),
            "embed_norm_layer": common["norm_layer"] if norm is RmsNorm else None,
            "reg_tokens": registers,
            "no_embed_class": config.kind == "dinov2_with_registers",
            "pre_norm": config.kind == "clip_vision_model",
            "fc_norm": False,
        },
    )


def _eva(config: VisionConfig) -> dict[str, Any]:
    return {
        "attn_type": "rope" if "k" in config.biases else "eva",  # "eva" has no bias for the keys
        "swiglu_mlp": config.gated,
        "num_reg_tokens": config.num_register_tokens,
        "use_abs_pos_emb": False,
        "use_rot_pos_emb": True,
        "rope_type": "dinov3",
        "rope_temperature": config.rope_theta,
        "rope_rotate_half": True,
    }


def _pool(config: VisionConfig, given: Mapping[str, Tensor]) -> str:
    if config.traits.class_token:
        return "token"
    return "map" if config.vision_use_head and "head.weight" not in given else "avg"


def _classes(given: Mapping[str, Tensor]) -> int:
    heads = [given[name] for name in ("head.weight", "head_dist.weight") if name in given]
    if not heads:
        return 0
    return max(heads[0].shape[0], 1) if heads[0].ndim == 2 else 1  # other shapes are refused later
