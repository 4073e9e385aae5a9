"""timm's model of a ``Config``: the inverse of ``config_of``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import (
    GELU,
    AttentionPoolLatent,
    GELUTanh,
    GluMlp,
    LayerNorm,
    Mlp,
    QuickGELU,
    RmsNorm,
    SwiGLU,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from dsm_ext._native import Config
from dsm_ext.timm_models.config import config_of, is_identity
from dsm_ext.timm_models.weights import fill_buffers

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": GELU, "gelu_tanh": GELUTanh, "quick_gelu": QuickGELU, "silu": nn.SiLU
}  # fmt: skip
_MLPS: dict[str, Any] = {"mlp": Mlp, "glu": partial(GluMlp, gate_last=False), "swiglu": SwiGLU}


def timm_model_of(config: Config, parameters: Mapping[str, Tensor]) -> Any:
    """Make timm's model in eval mode with given parameters, which it shares.

    Args:
        config: the model's shape.
        parameters: by timm's names, as the ``named_parameters`` of a ``dsm_ext.VisionTransformer``.

    Returns:
        timm's ``VisionTransformer``, ``VisionTransformerDistilled`` or ``Eva``.

    Raises:
        NotImplementedError: timm's classes cannot be made in this shape. The message names the
            fields of ``config``.
        RuntimeError: the parameters do not fit ``config``.
    """
    model = shape_of_config(config)
    model.load_state_dict(dict(parameters), assign=True)
    fill_buffers(model)
    return model


def shape_of_config(config: Config) -> Any:
    """Make timm's model in eval mode on the meta device, that is without values.

    Raises:
        NotImplementedError: as for ``timm_model_of``.
    """
    kind: Callable[..., Any] = VisionTransformer
    if config.block == "eva":
        kind = Eva
    elif config.distilled:
        kind = VisionTransformerDistilled
    arguments = _eva_arguments(config) if kind is Eva else _vit_arguments(config)
    # None is timm's default. It is left out, because older versions of timm lack some arguments.
    arguments = {name: value for name, value in arguments.items() if value is not None}
    with torch.device("meta"):
        model = kind(**_common_arguments(config), **arguments).eval()
        _replace_parts(model, config)
    own, made = config.to_dict(), config_of(model).to_dict()
    differing = [name for name in own if own[name] != made[name]]
    if differing:
        said = ", ".join(f"{name}={own[name]!r}" for name in differing)
        raise NotImplementedError(
            f"dsm_ext: expected a shape that timm's {kind.__name__} can have, got {said}"
        )
    return model


def _common_arguments(config: Config) -> dict[str, Any]:
    return {
        "img_size": config.img_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_chans,
        "num_classes": config.num_classes,
        "global_pool": config.global_pool,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "qkv_bias": config.qkv_bias,
        "class_token": config.class_token,
        "no_embed_class": config.no_embed_class,
        "norm_layer": _norm(config),
    }


def _vit_arguments(config: Config) -> dict[str, Any]:
    parallel = config.block == "parallel"
    hidden = config.mlp_dim * (2 if config.mlp_layer == "glu" else 1)
    return {
        "mlp_ratio": _ratio(hidden, config),
        "qk_norm": config.qk_norm,
        "scale_attn_norm": config.scale_attn_norm or None,
        "scale_mlp_norm": config.scale_mlp_norm or None,
        "proj_bias": config.proj_bias,
        "init_values": 1.0 if config.layer_scale else None,
        "pos_embed": "learn" if config.pos_embed else "none",
        "reg_tokens": config.reg_tokens,
        "pool_include_prefix": config.pool_include_prefix,
        "dynamic_img_size": config.dynamic_img_size,
        "act_layer": _ACTIVATIONS[config.act_layer],
        "mlp_layer": _MLPS[config.mlp_layer],
        "block_fn": ParallelScalingBlock if parallel else None,
        "weight_init": "skip",
    }


def _eva_arguments(config: Config) -> dict[str, Any]:
    heads: Any = None
    if config.num_kv_heads:
        full = config.num_full_attn_blocks
        middle = config.depth - 2 * full
        ends = (config.num_heads,) * full
        heads = (*ends, *(config.num_kv_heads,) * middle, *ends)
    return {
        "mlp_ratio": _ratio(config.mlp_dim, config),
        "num_kv_heads": heads,
        "qkv_fused": config.qkv_fused,
        "qk_norm": config.qk_norm or None,
        "swiglu_mlp": config.mlp_layer != "mlp",
        "swiglu_align_to": 1 if config.mlp_layer == "swiglu" else None,  # else timm makes a GluMlp
        "scale_mlp": config.scale_mlp_norm,
        "scale_attn_inner": config.scale_attn_norm,
        "attn_type": "rope" if heads or (config.qkv_bias and config.k_bias) else None,
        "init_values": 1.0 if config.layer_scale else None,
        "attn_only_layer_scale": config.attn_only_layer_scale or None,
        "num_reg_tokens": config.reg_tokens,
        "use_abs_pos_emb": config.pos_embed,
        "dynamic_img_size": config.dynamic_img_size,
        **_rope_arguments(config),
    }


def _rope_arguments(config: Config) -> dict[str, Any]:
    if not config.rope_type:
        return {}
    arguments = {
        "use_rot_pos_emb": True,
        "rope_type": config.rope_type,
        "rope_grid_indexing": config.rope_grid_indexing,
        "rope_rotate_half": config.rope_rotate_half,
    }
    if config.rope_type != "mixed":
        arguments |= {
            "rope_temperature": config.rope_temperature,
            "rope_grid_offset": config.rope_grid_offset,
        }
    if config.ref_feat_shape != (0, 0):
        arguments["ref_feat_shape"] = config.ref_feat_shape
    return arguments


def _replace_parts(model: Any, config: Config) -> None:
    """Give a model the parts that its class makes by rules of its own: norms outside the blocks,
    biases of the patches and the head, and the attention pool."""
    width, norm = config.embed_dim, _norm(config)
    patches = model.patch_embed
    patches.proj = nn.Conv2d(
        config.in_chans, width, config.patch_size, config.patch_size, bias=config.patch_bias
    )
    patches.norm = norm(width) if config.embed_norm else nn.Identity()
    model.norm_pre = norm(width) if config.pre_norm else nn.Identity()
    model.norm = norm(width) if config.final_norm else nn.Identity()
    model.fc_norm = norm(width) if config.fc_norm else nn.Identity()
    for name in ("head", "head_dist"):
        if not is_identity(getattr(model, name, nn.Identity())):
            setattr(model, name, nn.Linear(width, config.num_classes, bias=config.head_bias))
    if config.global_pool == "map":
        model.attn_pool = AttentionPoolLatent(
            width,
            num_heads=config.attn_pool_num_heads or config.num_heads,
            mlp_ratio=_ratio(config.attn_pool_mlp_dim or config.mlp_dim, config),
            norm_layer=norm,
            act_layer=_ACTIVATIONS[config.act_layer],
        )
    if config.block == "eva":
        for block in model.blocks:
            block.mlp.act = _ACTIVATIONS[config.act_layer]()


def _norm(config: Config) -> Any:
    return partial(RmsNorm if config.norm_layer == "rms_norm" else LayerNorm, eps=config.eps)


def _ratio(hidden: int, config: Config) -> float:
    """The MLP's ratio from which timm computes this hidden width, by cutting the fraction off."""
    return (hidden + 0.5) / config.embed_dim
