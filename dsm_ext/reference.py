"""Delayed Spatial Merging in plain PyTorch: the tests' oracle, and a peer in the benchmarks.

Nothing here uses the extension, unless a caller passes its operators to ``forward``. Letters: B
images, N tokens, C channels, H heads, D = C / H, P prefix tokens, G groups of T tokens. Source:
arXiv 2303.02331 (DSM), arXiv 2210.09461 (ToMe).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "forward",
    "forward_features",
    "forward_intermediates",
    "key_metric",
    "match",
    "merge",
    "plain",
    "propose",
    "select",
    "trace",
    "unmerge",
    "window_order",
]


def match(
    metric: Tensor,
    r: int,
    prefix: int = 0,
    windows: Sequence[int] = (),
    order: Tensor | None = None,
    score: str = "similarity",
) -> Tensor:
    """Bipartite soft matching; arguments as in ``dsm_ext.match``. Returns int64 [B, N]."""
    b, n, _ = metric.shape
    destination = torch.arange(n, device=metric.device).repeat(b, 1)
    if r == 0:
        return destination
    unit, valid = _unit_rows(metric)
    for tokens, first_a, removed, base in _groups(n, r, prefix, windows, order, metric.device):
        if removed == 0:  # a window of one token or none
            destination[:, tokens] = base + torch.arange(tokens.shape[1], device=metric.device)
            continue
        in_a, in_b = tokens[:, first_a::2], tokens[:, 1 - first_a :: 2]  # [G, T / 2]
        similarity, partner = propose(unit[:, in_a], unit[:, in_b], valid[:, in_a], valid[:, in_b])
        merged_away = select(similarity, removed, score)
        rest = in_a.shape[1] - removed  # tokens of A that stay; they go in front of B
        stays = (~merged_away).cumsum(-1) - 1
        destination[:, in_a] = base + torch.where(merged_away, rest + partner, stays)
        destination[:, in_b] = base + rest + torch.arange(in_b.shape[1], device=metric.device)
    return destination


def _unit_rows(metric: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of one length [B, N, D] float64, and which of them have a direction [B, N, 1].

    A zero-length or non-finite row has no direction and becomes zero. The length is 2**26, and the
    values are rounded to whole numbers. Products of two such numbers and sums of the products are
    exact in float64. So equal rows have equal similarities in whatever order a library adds, and
    the index alone decides between them.
    """
    metric = metric.float()
    norm = metric.double().norm(dim=-1, keepdim=True)
    valid = norm.isfinite() & (norm > 0)
    return torch.where(valid, metric / norm * 2.0**26, 0.0).round(), valid


def propose(a: Tensor, b: Tensor, valid_a: Tensor, valid_b: Tensor) -> tuple[Tensor, Tensor]:
    """Find the partner of each token of A: the most similar token of B; ties: the lower index.

    Args:
        a, b: rows of equal length [B, G, A, D] and [B, G, B, D].
        valid_a, valid_b: [B, G, A, 1] and [B, G, B, 1], false for a row without a direction.

    Returns:
        The similarity to the partner [B, G, A], minus infinity without a valid one, and the
        partner's index in B [B, G, A].
    """
    similarity = a @ b.transpose(-1, -2)  # [B, G, A, B]
    both = valid_a & valid_b.transpose(-1, -2)
    best = similarity.masked_fill(~both, -math.inf).max(dim=-1)
    return best.values, best.indices


def select(similarity: Tensor, removed: int, score: str = "similarity") -> Tensor:
    """Select the ``removed`` pairs of the highest score; ties: the lower index of A.

    Returns:
        [B, G, A] bool: whether the token of A merges away.
    """
    ranked = _pair_score(similarity, score).argsort(dim=-1, descending=True, stable=True)
    merged_away = torch.zeros_like(similarity, dtype=torch.bool)
    return merged_away.scatter(-1, ranked[..., :removed], True)


def _pair_score(similarity: Tensor, score: str) -> Tensor:
    """What ranks the pairs [B, G, A]; a further score is computed here."""
    if score != "similarity":
        raise ValueError(f"dsm_ext.match: expected score to be similarity, got {score}")
    return similarity


def _groups(
    n: int, r: int, prefix: int, windows: Sequence[int], order: Tensor | None, device: torch.device
) -> Iterator[tuple[Tensor, int, int, Tensor | int]]:
    """For the groups of each length: their tokens [G, T], the first place of A in a group, how many
    tokens merge away, and the index of each group's first token afterwards [G, 1]."""
    if not windows:  # one group; its positions count the prefix, so an odd prefix puts B first
        yield torch.arange(prefix, n, device=device)[None], prefix % 2, r, prefix
        return
    if order is None:
        order = torch.arange(n - prefix, device=device)
    parts = (prefix + order.long()).split(list(windows))
    left = [t - min(r, t // 2) for t in windows]
    base = [prefix + sum(left[:g]) for g in range(len(windows))]
    for length in sorted(set(windows)):
        chosen = [g for g, t in enumerate(windows) if t == length]
        tokens = torch.stack([parts[g] for g in chosen])
        begins = torch.cat([torch.full((1, 1), base[g], device=device) for g in chosen])
        yield tokens, 0, min(r, length // 2), begins


def merge(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Means weighted by size, and sums of sizes, as ``dsm_ext.merge``; any integer map."""
    b, _, c = x.shape
    index = destination.long()
    total = size.new_zeros(b, tokens).scatter_add(1, index, size)
    weighted = x.float() * size[..., None]
    merged = weighted.new_zeros(b, tokens, c).scatter_add(
        1, index[..., None].expand(-1, -1, c), weighted
    )
    return (merged / total[..., None]).to(x.dtype), total


def unmerge(x: Tensor, source: Tensor) -> Tensor:
    """Row q is row ``source[q]`` of ``x``, as ``dsm_ext.unmerge``; any integer map."""
    return x.gather(1, source.long()[..., None].expand(-1, -1, x.shape[2]))


def window_order(
    grid: tuple[int, int], window: int, device: torch.device | None = None
) -> tuple[Tensor, list[int]]:
    """The patches of a grid in window-major order [gh * gw], and how many each window has.

    The grid is cut into ceil(gh / w) x ceil(gw / w) windows, as evenly as possible.
    """
    gh, gw = grid
    patches = torch.arange(gh * gw, device=device).view(gh, gw)
    windows = [
        part.flatten()
        for rows in patches.tensor_split(math.ceil(gh / window), dim=0)
        for part in rows.tensor_split(math.ceil(gw / window), dim=1)
    ]
    return torch.cat(windows), [len(w) for w in windows]


class PlainStep(NamedTuple):
    r: int
    window: int


@dataclass(frozen=True)
class PlainSchedule:
    blocks: tuple[tuple[PlainStep, ...], ...]
    proportional: bool
    score: str

    def __iter__(self) -> Iterator[Any]:
        return iter(self.blocks)


def plain(schedule: Any) -> PlainSchedule:
    """Copy a schedule into plain Python values, which torch.compile can trace."""
    blocks = tuple(tuple(PlainStep(s.r, s.window) for s in steps) for steps in schedule)
    return PlainSchedule(blocks, schedule.proportional, _score_of(schedule))


def _score_of(schedule: Any) -> str:
    """What ranks the pairs: that of the schedule's rule, or the default for a plain list."""
    if hasattr(schedule, "score"):
        return schedule.score
    return schedule.rule.score if hasattr(schedule, "rule") else "similarity"


@torch.no_grad()
def forward(model: Any, images: Tensor, schedule: Any, ops: Any = None) -> Tensor:
    """Logits [B, classes] of a timm ``VisionTransformer`` under a schedule.

    Args:
        model: a timm ``VisionTransformer`` made of ``Block`` or ``ParallelScalingBlock``, or a
            distilled DeiT, in eval mode.
        images: [B, channels, height, width] in the model's dtype, on its device.
        schedule: a ``dsm_ext.Schedule``, or an iterable of each block's steps, which have ``r`` and
            ``window`` (0: global).
        ops: the module whose ``match`` and ``merge`` are called, for example ``dsm_ext``; None:
            this module. ``torch.compile`` and ``torch.export`` can trace both, with a schedule from
            ``plain``.
    """
    return _head(model, *_run(model, images, schedule, ops=ops), schedule)


@torch.no_grad()
def forward_features(model: Any, images: Tensor, schedule: Any) -> Tensor:
    """The remaining tokens [B, M, C], after the last norm."""
    return model.norm(_run(model, images, schedule)[0])


@torch.no_grad()
def trace(model: Any, images: Tensor, schedule: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, source map [B, gh * gw] and sizes [B, M]."""
    tokens, source, size = _run(model, images, schedule)
    return _head(model, tokens, source, size, schedule), source, size


@torch.no_grad()
def forward_intermediates(
    model: Any, images: Tensor, schedule: Any, blocks: Sequence[int]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """After each of the given blocks: tokens [B, M, C] before any norm, source map and sizes."""
    return [_run(model, images, schedule, i + 1) for i in blocks]


def _head(model: Any, x: Tensor, source: Tensor, size: Tensor, schedule: Any) -> Tensor:
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
        x = model.attn_pool(x, attn_mask=bias)
    return model.head(model.fc_norm(x))


def _run(
    model: Any, images: Tensor, schedule: Any, depth: int | None = None, ops: Any = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens after the first ``depth`` blocks, before the last norm; source map and sizes."""
    ph, pw = model.patch_embed.patch_size
    grid = (images.shape[2] // ph, images.shape[3] // pw)
    ops = ops or sys.modules[__name__]
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    b, n, _ = x.shape
    prefix = model.num_prefix_tokens
    size = torch.ones(b, n, device=x.device, dtype=torch.float32)
    source = torch.arange(prefix, n, device=x.device).repeat(b, 1)
    proportional = getattr(schedule, "proportional", True)
    score = _score_of(schedule)
    windows: list[int] = []
    for block, steps in list(zip(model.blocks, schedule, strict=True))[:depth]:
        merged = x.shape[1] < n
        bias = size.log().to(x.dtype)[:, None, None, :] if proportional and merged else None
        if hasattr(block, "in_proj"):
            x, metric = _parallel_block(block, x, bias)
        else:
            attended, metric = _attention(block.attn, block.norm1(x), bias)
            x = x + block.ls1(attended)
        for step in steps:
            destination, tokens, windows = _match_step(
                ops, metric, score, step, prefix, windows, grid
            )
            metric, _ = ops.merge(metric, size, destination, tokens)
            x, size = ops.merge(x, size, destination, tokens)
            source = destination.gather(1, source).long()
        if not hasattr(block, "in_proj"):
            x = x + block.ls2(block.mlp(block.norm2(x)))
    return x, source, size


def key_metric(keys: Tensor) -> Tensor:
    """The metric [B, N, D] float32: the mean of the keys [B, H, N, D] over the heads."""
    return keys.float().mean(1)


def _attention(attn: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Proportional attention [B, N, C], and the metric [B, N, D]."""
    b, n, c = x.shape
    q, k, v = attn.qkv(x).view(b, n, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attn.proj(attn.norm(out.transpose(1, 2).reshape(b, n, c))), key_metric(k)


def _parallel_block(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """timm's ``ParallelScalingBlock``, which merges after its MLP, and the metric [B, N, D]."""
    b, n, c = x.shape
    hidden, *qkv = block.in_proj(block.in_norm(x)).split(block.in_split, dim=-1)
    if block.mlp_bias is not None:
        hidden = hidden + block.mlp_bias
    q, k, v = (part.view(b, n, block.num_heads, -1) for part in qkv)
    q, k, v = (part.transpose(1, 2) for part in (block.q_norm(q), block.k_norm(k), v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    out = block.attn_out_proj(out.transpose(1, 2).reshape(b, n, c))
    return x + block.ls(out + block.mlp_out_proj(block.mlp_act(hidden))), key_metric(k)


def _match_step(
    ops: Any,
    metric: Tensor,
    score: str,
    step: Any,
    prefix: int,
    windows: list[int],
    grid: tuple[int, int],
) -> tuple[Tensor, int, list[int]]:
    """The map of one step, how many tokens remain, and how many of them each window has."""
    n = metric.shape[1]
    if step.window == 0:
        r = min(step.r, (n - prefix) // 2)
        return ops.match(metric, r, prefix=prefix, score=score), n - r, []
    order = None
    if not windows:
        order, windows = window_order(grid, step.window, metric.device)
        order = order.int()
    r = math.ceil(step.r / len(windows))
    left = [t - min(r, t // 2) for t in windows]
    r = min(r, max(windows) // 2)
    destination = ops.match(metric, r, prefix=prefix, windows=windows, order=order, score=score)
    return destination, prefix + sum(left), left
