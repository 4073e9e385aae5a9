"""Attention and blocks of timm's models, with the queries and keys that merging needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsm_ext.reference.precision import attend, stored
from dsm_ext.reference.rotary import rotate_grid


class Attended(NamedTuple):
    """The output of attention or of a parallel block, and what it was computed from."""

    out: Tensor  # [B, N, C]
    q: Tensor  # [B, H, N, D], as attention multiplies them
    k: Tensor  # [B, H, N, D], as attention multiplies them
    unrotated: Tensor  # the keys before the rotation [B, H, N, D]; without one, k itself


def attention(
    attn: Any, x: Tensor, bias: Tensor | None, angles: Tensor | None, precision: str
) -> Attended:
    """Attention of timm's ``Attention``, ``EvaAttention`` and ``AttentionRope``.

    Args:
        attn: the module.
        x: tokens after the norm [B, N, C].
        bias: [B, 1, 1, N], added to the scores.
        angles: [B, H or 1, N - P, D / 2], by which the last tokens are rotated. None: no rotation.
        precision: as for ``dsm_ext.reference.forward``.
    """
    b, n, _ = x.shape
    width = attn.proj.weight.shape[1] // attn.num_heads
    q, k, v = (part.view(b, n, -1, width).transpose(1, 2) for part in _qkv(attn, x))
    v = stored(v, precision)
    normed = not isinstance(attn.q_norm, torch.nn.Identity)
    if normed or angles is None:  # otherwise queries and keys are rotated before they are stored
        q, k = stored(q, precision), stored(k, precision)
    if normed:
        q, k = stored(attn.q_norm(q), precision), stored(attn.k_norm(k), precision)
    groups = attn.num_heads // k.shape[1]  # more than 1: several heads share a key and a value
    unrotated = k
    if angles is not None:
        q, k = (stored(rotate_grid(part, angles, attn.rotate_half), precision) for part in (q, k))
    k, v, unrotated = (part.repeat_interleave(groups, 1) for part in (k, v, unrotated))
    out = attend(q, k, v, bias, precision).transpose(1, 2).reshape(b, n, -1)
    return Attended(attn.proj(attn.norm(out)), q, k, unrotated)


def _qkv(attn: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, each [B, N, heads * D]."""
    if attn.qkv is None:
        return attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)
    qkv = attn.qkv(x)
    if getattr(attn, "q_bias", None) is not None:  # keys have no bias
        qkv = qkv + torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
    return qkv.chunk(3, -1)


def scaled(x: Tensor, block: Any, branch: int) -> Tensor:
    """Apply the LayerScale of branch 1 (attention) or 2 (MLP), under the name that it has."""
    if hasattr(block, "ls1"):
        return getattr(block, f"ls{branch}")(x)
    gamma = getattr(block, f"gamma_{branch}")
    return x if gamma is None else x * gamma


def parallel_block(block: Any, x: Tensor, bias: Tensor | None, precision: str) -> Attended:
    """timm's ``ParallelScalingBlock``, which merges after its MLP."""
    b, n, c = x.shape
    hidden, *qkv = block.in_proj(block.in_norm(x)).split(block.in_split, dim=-1)
    if block.mlp_bias is not None:
        hidden = hidden + block.mlp_bias
    q, k, v = (part.view(b, n, block.num_heads, -1) for part in qkv)
    q, k, v = (
        stored(part.transpose(1, 2), precision) for part in (block.q_norm(q), block.k_norm(k), v)
    )
    out = attend(q, k, v, bias, precision)
    out = block.attn_out_proj(out.transpose(1, 2).reshape(b, n, c))
    return Attended(x + block.ls(out + block.mlp_out_proj(block.mlp_act(hidden))), q, k, k)
