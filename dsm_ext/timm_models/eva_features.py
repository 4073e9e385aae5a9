"""Features of timm's ``Eva`` and its blocks that are not supported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models.eva import EvaAttention

from dsm_ext.timm_models.eva import ROPES, kv_head_counts, kv_heads_of
from dsm_ext.timm_models.features import ATTN_MLP_FEATURES


def _head_dim(attn: Any) -> int:
    """The channels of a head. Not every timm's ``EvaAttention`` keeps them."""
    return attn.proj.in_features // attn.num_heads


def _adds_up(attn: Any) -> bool:
    """Whether all query heads together are as wide as the tokens, and no head has another width."""
    width, head = attn.proj.out_features, _head_dim(attn)
    kv_width = kv_heads_of(attn) * head
    if attn.qkv is not None:
        layers = [(attn.qkv, 3 * width)]
    else:
        layers = [(attn.q_proj, width), (attn.k_proj, kv_width), (attn.v_proj, kv_width)]
    return attn.num_heads * head == width and all(
        (layer.in_features, layer.out_features) == (width, rows) for layer, rows in layers
    )


def _usual_biases(attn: Any) -> bool:
    """Whether the biases of queries, keys and values are those that timm gives them."""
    of_eva = isinstance(attn, EvaAttention)
    if attn.qkv is not None:
        return not of_eva or (
            attn.qkv.bias is None and (attn.q_bias is None) == (attn.v_bias is None)
        )
    present = [layer.bias is not None for layer in (attn.q_proj, attn.k_proj, attn.v_proj)]
    return present == [present[0], present[0] and not of_eva, present[0]]


def _ends_alike(model: Any) -> bool:
    """Whether only blocks in the middle have fewer key and value heads, all equally many, with as
    many other blocks before them as after them, as in Sapiens2."""
    count, full = kv_head_counts(model)
    if count == 0:
        return True
    heads, depth = model.blocks[0].attn.num_heads, len(model.blocks)
    middle = range(full, depth - full)
    return [kv_heads_of(block.attn) for block in model.blocks] == [
        count if i in middle else heads for i in range(depth)
    ]


def _fits_grid(model: Any) -> bool:
    """Whether the rotations are those of the model's image size."""
    shape = getattr(model.rope, "feat_shape", None)
    if model.dynamic_img_size and shape is None:
        return True
    return shape is not None and tuple(shape) == tuple(model.patch_embed.grid_size)


def _fits_heads(model: Any) -> bool:
    """Whether the rotations are those of the attention's heads."""
    rope, attn = model.rope, model.blocks[0].attn
    head = rope.dim // rope.num_heads if ROPES[type(rope)] == "mixed" else rope.dim
    return head == _head_dim(attn)


def _halves(model: Any) -> set[bool]:
    """How the rotations are laid out, and how each attention reads them."""
    attns = {bool(getattr(block.attn, "rotate_half", False)) for block in model.blocks}
    return attns | {bool(getattr(model.rope, "rotate_half", False))}


EVA_MODEL_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    (
        "rotations of pixel coordinates (in_pixels)",
        lambda m: (
            getattr(m.rope, "in_pixels", False) or getattr(m.rope, "grid_type", "index") != "index"
        ),
    ),
    (
        "rotations normalised otherwise than by each side (normalize_coords)",
        lambda m: (
            hasattr(m.rope, "periods") and getattr(m.rope, "normalize_coords", "") != "separate"
        ),
    ),
    (
        "rotations between two periods (min_period, max_period)",
        lambda m: getattr(m.rope, "min_period", None) is not None,
    ),
    (
        "rotations for another image size than the model's",
        lambda m: m.rope is not None and not _fits_grid(m),
    ),
    (
        "rotations for another head size than attention's",
        lambda m: m.rope is not None and len(m.blocks) > 0 and not _fits_heads(m),
    ),
    (
        "rotations in another layout than attention's (rotate_half)",
        lambda m: m.rope is not None and len(_halves(m)) > 1,
    ),
    (
        "an attention that rotates another number of prefix tokens",
        lambda m: any(b.attn.num_prefix_tokens != m.num_prefix_tokens for b in m.blocks),
    ),
    (
        "key and value heads in another pattern than Sapiens2's (num_kv_heads)",
        lambda m: not _ends_alike(m),
    ),
]
EVA_BLOCK_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    *ATTN_MLP_FEATURES,
    ("a bias in only some of the queries, keys and values", lambda b: not _usual_biases(b.attn)),
    ("heads that do not add up to embed_dim", lambda b: not _adds_up(b.attn)),
    (
        "LayerScale in the MLP's branch only",
        lambda b: b.gamma_1 is None and b.gamma_2 is not None,
    ),
]
