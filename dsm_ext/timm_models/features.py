"""Features of timm's models and blocks that are not supported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, ParallelScalingBlock
from torch import nn

from dsm_ext.timm_models.config import is_identity


def _tiles(patch_embed: Any) -> bool:
    proj = patch_embed.proj
    patch = tuple(patch_embed.patch_size)
    return (
        (proj.kernel_size, proj.stride, proj.padding) == (patch, patch, (0, 0))
        and proj.dilation == (1, 1)
        and proj.groups == 1
    )


def _usual_pool(pool: Any) -> bool:
    """Whether an attention pool is like those of timm's models."""
    return (
        pool.latent_len == 1
        and pool.pool == "token"
        and pool.pos_embed is None
        and is_identity(pool.q_norm)
        and is_identity(pool.k_norm)
        and not is_identity(pool.q)
        and not is_identity(pool.norm)
        and pool.mlp is not None
        and is_identity(pool.mlp.norm)
        and not _unusual_scale(pool)
        and None not in (pool.q.bias, pool.kv.bias, pool.mlp.fc1.bias, pool.mlp.fc2.bias)
    )


def _names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def _unusual_scale(attn: Any) -> bool:
    head_dim = getattr(attn, "head_dim", None)  # not every timm's EvaAttention keeps it
    head_dim = head_dim or attn.proj.in_features // attn.num_heads
    return abs(attn.scale * head_dim**0.5 - 1) > 1e-6


def _prefix(model: Any) -> int:
    tokens = (model.cls_token, getattr(model, "dist_token", None), model.reg_token)
    return sum(token.shape[1] for token in tokens if token is not None)


def _grid(patch_embed: Any) -> tuple[int, ...]:
    sides = zip(patch_embed.img_size, patch_embed.patch_size, strict=True)
    return tuple(side // patch for side, patch in sides)


MODEL_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("no image size of its own (img_size=None)", lambda m: m.patch_embed.img_size is None),
    (
        "a grid_size that does not match its img_size",
        lambda m: (
            m.patch_embed.img_size is not None
            and tuple(m.patch_embed.grid_size) != _grid(m.patch_embed)
        ),
    ),
    (
        "a num_prefix_tokens that does not match its tokens",
        lambda m: m.num_prefix_tokens != _prefix(m),
    ),
    (
        "blocks that are not in the order of their names",
        lambda m: list(m.blocks._modules) != _names(len(m.blocks)),
    ),
    ("dynamic_img_pad", lambda m: m.patch_embed.dynamic_img_pad),
    ("a patch embedding whose patches overlap or are padded", lambda m: not _tiles(m.patch_embed)),
    (
        "a pooling other than token, avg or map (global_pool)",
        lambda m: m.global_pool not in ("", "token", "avg", "map"),
    ),
    (
        "a head on tokens that are not pooled (global_pool='')",
        lambda m: m.global_pool == "" and not (is_identity(m.head) and is_identity(m.fc_norm)),
    ),
    (
        "an attention pool that timm's models do not make",
        lambda m: m.attn_pool is not None and not _usual_pool(m.attn_pool),
    ),
    (
        "a distilled head together with registers or a norm of the pooled tokens",
        lambda m: (
            isinstance(m, VisionTransformerDistilled)
            and (m.reg_token is not None or m.cls_token is None or not is_identity(m.fc_norm))
        ),
    ),
    (
        "two heads of different kinds",
        lambda m: (
            isinstance(m, VisionTransformerDistilled)
            and (
                type(m.head) is not type(m.head_dist)
                or (getattr(m.head, "bias", None) is None)
                != (getattr(m.head_dist, "bias", None) is None)
            )
        ),
    ),
]
# Of blocks with the attributes attn and mlp.
ATTN_MLP_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    (
        "a bias in only some of attention's projection and the MLP's layers",
        lambda b: (
            len({m.bias is None for m in b.mlp.children() if type(m) is nn.Linear}
                | {b.attn.proj.bias is None}) > 1
        ),
    ),
    ("another attention scale than head_dim ** -0.5", lambda b: _unusual_scale(b.attn)),
    ("a gate in the MLP's second half", lambda b: getattr(b.mlp, "gate_last", False)),
    (
        "a norm of queries or keys only",
        lambda b: is_identity(b.attn.q_norm) != is_identity(b.attn.k_norm),
    ),
]  # fmt: skip
BLOCK_FEATURES: dict[type, list[tuple[str, Callable[[Any], bool]]]] = {
    Block: [
        *ATTN_MLP_FEATURES,
        (
            "heads that do not add up to embed_dim",
            lambda b: (
                b.attn.num_heads * b.attn.head_dim != b.attn.qkv.in_features
                or b.attn.qkv.out_features != 3 * b.attn.qkv.in_features
            ),
        ),
        ("LayerScale in one branch only", lambda b: is_identity(b.ls1) != is_identity(b.ls2)),
    ],
    ParallelScalingBlock: [
        ("another attention scale than head_dim ** -0.5", _unusual_scale),
        (
            "a norm of queries or keys only",
            lambda b: is_identity(b.q_norm) != is_identity(b.k_norm),
        ),
        (
            "a bias in one output projection only",
            lambda b: (b.attn_out_proj.bias is None) != (b.mlp_out_proj.bias is None),
        ),
    ],
}
