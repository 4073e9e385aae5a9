"""The operators of token merging in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


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


def key_metric(keys: Tensor) -> Tensor:
    """The metric [B, N, D] float32: the mean of the keys [B, H, N, D] over the heads."""
    return keys.float().mean(1)
