"""The ``Config`` fields of timm's ``Eva`` that its ``VisionTransformer`` does not have."""

from __future__ import annotations

from typing import Any

from timm.layers import RotaryEmbeddingCat, RotaryEmbeddingDinoV3, RotaryEmbeddingMixed
from timm.models.eva import EvaAttention

ROPES: dict[type, str] = {
    RotaryEmbeddingCat: "cat",
    RotaryEmbeddingDinoV3: "dinov3",
    RotaryEmbeddingMixed: "mixed",
}


def eva_fields(model: Any) -> dict[str, Any]:
    """Fields of a supported ``Eva``, without those of the same name in timm's two classes."""
    block = model.blocks[0]
    attn = block.attn
    bias = has_qkv_bias(attn)
    kv_heads, full_blocks = kv_head_counts(model)
    return {
        "block": "eva",
        "qkv_fused": attn.qkv is not None,
        "qkv_bias": bias,
        "k_bias": not (bias and isinstance(attn, EvaAttention)),
        "layer_scale": block.gamma_1 is not None,
        "attn_only_layer_scale": block.gamma_1 is not None and block.gamma_2 is None,
        "num_kv_heads": kv_heads,
        "num_full_attn_blocks": full_blocks,
        "pool_include_prefix": model.global_pool == "map",
        **_rope_fields(model.rope, attn),
    }


def has_qkv_bias(attn: Any) -> bool:
    """Whether queries and values have a bias."""
    if attn.qkv is None:
        return attn.q_proj.bias is not None
    if isinstance(attn, EvaAttention):
        return attn.q_bias is not None
    return attn.qkv.bias is not None


def kv_head_counts(model: Any) -> tuple[int, int]:
    """The key and value heads of the blocks that have fewer of them than query heads, and how many
    first blocks have all of them; (0, 0) if no block has fewer."""
    counts = [kv_heads_of(block.attn) for block in model.blocks]
    fewer = [i for i, count in enumerate(counts) if count != model.blocks[i].attn.num_heads]
    return (counts[fewer[0]], fewer[0]) if fewer else (0, 0)


def kv_heads_of(attn: Any) -> int:
    return getattr(attn, "num_kv_heads", attn.num_heads)


def _rope_fields(rope: Any, attn: Any) -> dict[str, Any]:
    if rope is None:
        return {}
    kind = ROPES[type(rope)]
    fields = {"rope_type": kind, "rope_grid_indexing": rope.grid_indexing}
    if kind == "mixed":  # its parameter has the frequencies
        return fields
    if kind == "cat" and rope.ref_feat_shape is not None:
        fields["ref_feat_shape"] = tuple(rope.ref_feat_shape)
    return fields | {
        "rope_temperature": float(rope.temperature),
        "rope_grid_offset": float(rope.grid_offset),
        "rope_rotate_half": bool(getattr(attn, "rotate_half", False)),
    }
