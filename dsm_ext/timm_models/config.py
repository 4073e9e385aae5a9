"""The ``Config`` of a supported timm model."""

from __future__ import annotations

from typing import Any

from timm.layers import (
    GELU,
    GELUTanh,
    GluMlp,
    Mlp,
    QuickGELU,
    RmsNorm,
    SwiGLU,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn

from dsm_ext._native import Config
from dsm_ext.timm_models.eva import eva_fields


def config_of(model: Any) -> Config:
    """The ``Config`` of a supported timm model."""
    block = model.blocks[0]
    parallel = isinstance(block, ParallelScalingBlock)
    attn = block if parallel else block.attn
    mlp = None if parallel else block.mlp
    norm = block.in_norm if parallel else block.norm1
    distilled = isinstance(model, VisionTransformerDistilled)
    head = None if is_identity(model.head) else model.head
    kind = eva_fields(model) if isinstance(model, Eva) else _vit_fields(model)
    return Config(
        img_size=tuple(model.patch_embed.img_size),
        patch_size=tuple(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        num_classes=head.out_features if head is not None else 0,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=attn.num_heads,
        mlp_dim=_hidden_width(block),
        class_token=model.cls_token is not None,
        distilled=distilled,
        reg_tokens=0 if model.reg_token is None else model.reg_token.shape[1],
        pos_embed=model.pos_embed is not None,
        no_embed_class=model.no_embed_class,
        dynamic_img_size=model.dynamic_img_size,
        norm_layer="rms_norm" if isinstance(norm, RmsNorm) else "layer_norm",
        eps=norm.eps,
        mlp_layer=MLPS[type(mlp)] if mlp is not None else "mlp",
        act_layer=activation_of(block.mlp_act if mlp is None else mlp.act),
        qk_norm=not is_identity(attn.q_norm),
        scale_attn_norm=not parallel and not is_identity(attn.norm),
        scale_mlp_norm=mlp is not None and not is_identity(mlp.norm),
        proj_bias=(block.attn_out_proj if parallel else attn.proj).bias is not None,
        patch_bias=model.patch_embed.proj.bias is not None,
        embed_norm=not is_identity(model.patch_embed.norm),
        pre_norm=not is_identity(model.norm_pre),
        final_norm=not is_identity(model.norm),
        global_pool="token" if distilled else model.global_pool,
        fc_norm=not distilled and not is_identity(model.fc_norm),
        head_bias=head is None or head.bias is not None,
        **kind,
        **_attn_pool_fields(model.attn_pool, attn.num_heads, _hidden_width(block)),
    )


def _vit_fields(model: Any) -> dict[str, Any]:
    """Fields that timm's ``VisionTransformer`` and ``Eva`` show in different ways."""
    block = model.blocks[0]
    parallel = isinstance(block, ParallelScalingBlock)
    return {
        "block": "parallel" if parallel else "sequential",
        "layer_scale": not is_identity(block.ls if parallel else block.ls1),
        "qkv_bias": (block.in_proj if parallel else block.attn.qkv).bias is not None,
        "pool_include_prefix": model.pool_include_prefix,
    }


def _attn_pool_fields(pool: Any, num_heads: int, mlp_dim: int) -> dict[str, Any]:
    """Heads and hidden width of an attention pool where they are not those of the blocks."""
    if pool is None:
        return {}
    heads, width = pool.num_heads, pool.mlp.fc2.in_features
    return {
        "attn_pool_num_heads": 0 if heads == num_heads else heads,
        "attn_pool_mlp_dim": 0 if width == mlp_dim else width,
    }


def _hidden_width(block: Any) -> int:
    """The width of the values that the last layer of a block's MLP takes."""
    parallel = isinstance(block, ParallelScalingBlock)
    layer: Any = block.mlp_out_proj if parallel else block.mlp.fc2
    return layer.in_features


def activation_of(module: nn.Module) -> str:
    """The name of an activation in ``Config``."""
    if type(module) is nn.GELU and module.approximate == "tanh":
        return "gelu_tanh"
    return ACTIVATIONS[type(module)]


def is_identity(module: nn.Module) -> bool:
    """Whether a part is absent: timm puts an ``nn.Identity`` in its place."""
    return type(module) is nn.Identity


MLPS: dict[type, str] = {Mlp: "mlp", GluMlp: "glu", SwiGLU: "swiglu"}
ACTIVATIONS: dict[type, str] = {
    GELU: "gelu",
    nn.GELU: "gelu",
    GELUTanh: "gelu_tanh",
    QuickGELU: "quick_gelu",
    nn.SiLU: "silu",
}
