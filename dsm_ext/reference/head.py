"""Pooling and classifier of timm's models, over merged tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dsm_ext.reference.precision import attend, stored


def head(model: Any, x: Tensor, size: Tensor, schedule: Any, precision: str) -> Tensor:
    """Pool the tokens [B, M, C] and classify. A pool of several tokens weights them by size."""
    x = model.norm(x)
    pool = "token" if hasattr(model, "head_dist") else model.global_pool
    if pool not in ("avg", "map"):
        return model.forward_head(x)
    include_prefix = getattr(model, "pool_include_prefix", pool == "map")  # Eva has no such option
    first = 0 if include_prefix else model.num_prefix_tokens
    x, size = x[:, first:], size[:, first:]
    if pool == "avg":
        weights = size / size.sum(1, keepdim=True)
        x = (x.to(weights.dtype) * weights[..., None]).sum(1).to(x.dtype)
    else:
        proportional = getattr(schedule, "proportional", True)
        bias = size.log().to(x.dtype)[:, None, None, :] if proportional else None
        x = _attention_pool(model.attn_pool, x, bias, precision)
    return model.head(model.fc_norm(x))


def _attention_pool(pool: Any, x: Tensor, bias: Tensor | None, precision: str) -> Tensor:
    """timm's ``AttentionPoolLatent`` with one query [B, C]."""
    b, n, c = x.shape
    q = pool.q(pool.latent.expand(b, -1, -1)).view(b, 1, pool.num_heads, -1).transpose(1, 2)
    k, v = pool.kv(x).view(b, n, 2, pool.num_heads, -1).permute(2, 0, 3, 1, 4)
    out = attend(stored(q, precision), stored(k, precision), stored(v, precision), bias, precision)
    x = pool.proj(out.transpose(1, 2).reshape(b, 1, c))
    return (x + pool.mlp(pool.norm(x)))[:, 0]
