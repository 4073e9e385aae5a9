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
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn

from dsm_ext._native import Config


def config_of(model: Any) -> Config:
    """The ``Config`` of a supported timm model."""
    block = model.blocks[0]
    parallel = isinstance(block, ParallelScalingBlock)
    attn = block if parallel else block.attn
    mlp = None if parallel else block.mlp
    norm = block.in_norm if parallel else block.norm1
    distilled = isinstance(model, VisionTransformerDistilled)
    head = None if is_identity(model.head) else model.head
    return Config(
        img_size=tuple(model.patch_embed.img_size),
        patch_size=tuple(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        num_classes=head.out_features if head is not None else 0,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=attn.num_heads,
        mlp_dim=block.mlp_out_proj.in_features if mlp is None else mlp.fc2.in_features,
        class_token=model.cls_token is not None,
        distilled=distilled,
        reg_tokens=0 if model.reg_token is None else model.reg_token.shape[1],
        pos_embed=model.pos_embed is not None,
        no_embed_class=model.no_embed_class,
        dynamic_img_size=model.dynamic_img_size,
        block="parallel" if parallel else "sequential",
        norm_layer="rms_norm" if isinstance(norm, RmsNorm) else "layer_norm",
        eps=norm.eps,
        mlp_layer=MLPS[type(mlp)] if mlp is not None else "mlp",
        act_layer=activation_of(block.mlp_act if mlp is None else mlp.act),
        layer_scale=not is_identity(block.ls if parallel else block.ls1),
        qk_norm=not is_identity(attn.q_norm),
        scale_attn_norm=not parallel and not is_identity(attn.norm),
        scale_mlp_norm=mlp is not None and not is_identity(mlp.norm),
        qkv_bias=(block.in_proj if parallel else attn.qkv).bias is not None,
        proj_bias=(block.attn_out_proj if parallel else attn.proj).bias is not None,
        patch_bias=model.patch_embed.proj.bias is not None,
        embed_norm=not is_identity(model.patch_embed.norm),
        pre_norm=not is_identity(model.norm_pre),
        final_norm=not is_identity(model.norm),
        global_pool="token" if distilled else model.global_pool,
        pool_include_prefix=model.pool_include_prefix,
        fc_norm=not distilled and not is_identity(model.fc_norm),
        head_bias=head is None or head.bias is not None,
    )


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
