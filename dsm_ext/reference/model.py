"""The forward of timm's models with merge steps, in plain PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsm_ext.reference.operators import (
    class_attention,
    merge_metric,
    removed_from_windows,
    window_order,
)
from dsm_ext.reference.precision import attend, rounding_copy, stored


class PlainStep(NamedTuple):
    r: int
    window: int


class PlainRule(NamedTuple):
    metric: str = "keys"
    protect: float = 0.0


@dataclass(frozen=True)
class PlainSchedule:
    blocks: tuple[tuple[PlainStep, ...], ...]
    proportional: bool
    rule: PlainRule

    def __iter__(self) -> Iterator[Any]:
        return iter(self.blocks)


def plain(schedule: Any) -> PlainSchedule:
    """Copy a schedule into plain Python values, which torch.compile can trace."""
    blocks = tuple(tuple(PlainStep(s.r, s.window) for s in steps) for steps in schedule)
    rule = PlainRule(schedule.rule.metric, schedule.rule.protect)
    return PlainSchedule(blocks, schedule.proportional, rule)


@torch.no_grad()
def forward(
    model: Any, images: Tensor, schedule: Any, ops: Any = None, precision: str = "float32"
) -> Tensor:
    """Logits [B, classes] of a timm ``VisionTransformer`` under a schedule.

    Args:
        model: a timm ``VisionTransformer`` made of ``Block`` or ``ParallelScalingBlock``, or a
            distilled DeiT, in eval mode.
        images: [B, channels, height, width] in the model's dtype, on its device.
        schedule: a ``dsm_ext.Schedule``, or an iterable of each block's steps, which have ``r`` and
            ``window`` (0: global).
        ops: the module whose ``match`` and ``merge`` are called, for example ``dsm_ext``; None:
            ``dsm_ext.reference``. ``torch.compile`` and ``torch.export`` can trace both, with a
            schedule from ``plain``.
        precision: "bfloat16" and "int8" round where the CPU's fast path does, for a model in
            float32 or float64; see ``dsm_ext.reference.precision``.
    """
    model = rounding_copy(model, precision)
    return _head(model, *_run(model, images, schedule, precision, ops=ops), schedule, precision)


@torch.no_grad()
def forward_features(
    model: Any, images: Tensor, schedule: Any, precision: str = "float32"
) -> Tensor:
    """The remaining tokens [B, M, C], after the last norm."""
    return model.norm(_run(rounding_copy(model, precision), images, schedule, precision)[0])


@torch.no_grad()
def trace(
    model: Any, images: Tensor, schedule: Any, precision: str = "float32"
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, source map [B, gh * gw] and sizes [B, M]."""
    model = rounding_copy(model, precision)
    tokens, source, size = _run(model, images, schedule, precision)
    return _head(model, tokens, source, size, schedule, precision), source, size


@torch.no_grad()
def forward_intermediates(
    model: Any,
    images: Tensor,
    schedule: Any,
    blocks: Sequence[int],
    precision: str = "float32",
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """After each of the given blocks: tokens [B, M, C] before any norm, source map and sizes."""
    model = rounding_copy(model, precision)
    return [_run(model, images, schedule, precision, depth=i + 1) for i in blocks]


def _head(
    model: Any, x: Tensor, source: Tensor, size: Tensor, schedule: Any, precision: str
) -> Tensor:
    """Pool the tokens and classify. A pool of more than one token weights them by size."""
    x = model.norm(x)
    pool = "token" if hasattr(model, "head_dist") else model.global_pool
    if pool not in ("avg", "map"):
        return model.forward_head(x)
    first = 0 if model.pool_include_prefix else model.num_prefix_tokens
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


def _run(
    model: Any,
    images: Tensor,
    schedule: Any,
    precision: str,
    depth: int | None = None,
    ops: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens after the first ``depth`` blocks, before the last norm; source map and sizes."""
    ph, pw = model.patch_embed.patch_size
    grid = (images.shape[2] // ph, images.shape[3] // pw)
    ops = ops or sys.modules["dsm_ext.reference"]
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    b, n, _ = x.shape
    prefix = model.num_prefix_tokens
    size = torch.ones(b, n, device=x.device, dtype=torch.float32)
    source = torch.arange(prefix, n, device=x.device).repeat(b, 1)
    proportional = getattr(schedule, "proportional", True)
    rule = getattr(schedule, "rule", PlainRule())
    windows: list[int] = []
    for block, steps in list(zip(model.blocks, schedule, strict=True))[:depth]:
        merged = x.shape[1] < n
        bias = size.log().to(x.dtype)[:, None, None, :] if proportional and merged else None
        if hasattr(block, "in_proj"):
            x, q, k = _parallel_block(block, x, bias, precision)
        else:
            attended, q, k = _attention(block.attn, block.norm1(x), bias, precision)
            x = x + block.ls1(attended)
        if steps:
            metric = merge_metric(k, x if rule.metric == "keys+tokens" else None)
            importance = _importance(model, q, k, bias, size) if rule.protect > 0 else None
        for step in steps:
            penalty = None if importance is None else rule.protect * x.shape[1] * importance
            destination, tokens, windows = _match_step(
                ops, metric, step, prefix, windows, grid, penalty
            )
            metric, _ = ops.merge(metric, size, destination, tokens)
            if importance is not None:
                sums = importance.new_zeros(b, tokens)
                importance = sums.scatter_add(1, destination.long(), importance)
            x, size = ops.merge(x, size, destination, tokens)
            source = destination.gather(1, source).long()
        if not hasattr(block, "in_proj"):
            x = x + block.ls2(block.mlp(block.norm2(x)))
    return x, source, size


def _importance(model: Any, q: Tensor, k: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
    """The class token's attention to each token, its mean over the heads [B, N]."""
    has_class_token = getattr(model, "cls_token", None) is not None
    return class_attention(q, k, bias, None if has_class_token else size).mean(1)


def _attention(
    attn: Any, x: Tensor, bias: Tensor | None, precision: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Proportional attention [B, N, C], and the queries and keys [B, H, N, D]."""
    b, n, c = x.shape
    qkv = stored(attn.qkv(x), precision)
    q, k, v = qkv.view(b, n, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = stored(attn.q_norm(q), precision), stored(attn.k_norm(k), precision)
    out = attend(q, k, v, bias, precision)
    return attn.proj(attn.norm(out.transpose(1, 2).reshape(b, n, c))), q, k


def _parallel_block(
    block: Any, x: Tensor, bias: Tensor | None, precision: str
) -> tuple[Tensor, Tensor, Tensor]:
    """timm's ``ParallelScalingBlock``, which merges after its MLP; queries, keys [B, H, N, D]."""
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
    return x + block.ls(out + block.mlp_out_proj(block.mlp_act(hidden))), q, k


def _match_step(
    ops: Any,
    metric: Tensor,
    step: Any,
    prefix: int,
    windows: list[int],
    grid: tuple[int, int],
    penalty: Tensor | None,
) -> tuple[Tensor, int, list[int]]:
    """The map of one step, how many tokens remain, and how many of them each window has."""
    n = metric.shape[1]
    if step.window == 0:
        r = min(step.r, (n - prefix) // 2)
        return ops.match(metric, r, prefix=prefix, penalty=penalty), n - r, []
    order = None
    if not windows:
        order, windows = window_order(grid, step.window, metric.device)
        order = order.int()
    r = min(step.r, sum(t // 2 for t in windows))
    removed = removed_from_windows(r, windows)
    left = [t - lost for t, lost in zip(windows, removed, strict=True)]
    destination = ops.match(metric, r, prefix=prefix, windows=windows, order=order, penalty=penalty)
    return destination, n - r, left
