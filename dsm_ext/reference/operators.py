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
    penalty: Tensor | None = None,
) -> Tensor:
    """Bipartite soft matching; arguments as in ``dsm_ext.match``. Returns int64 [B, N]."""
    b, n, _ = metric.shape
    destination = torch.arange(n, device=metric.device).repeat(b, 1)
    if r == 0:
        return destination
    unit, valid = _unit_rows(metric)
    for tokens, first_a, removed, base in _groups(n, r, prefix, windows, order, metric.device):
        if tokens.shape[1] < 2:  # there is no pair
            destination[:, tokens] = base + torch.arange(tokens.shape[1], device=metric.device)
            continue
        in_a, in_b = tokens[:, first_a::2], tokens[:, 1 - first_a :: 2]  # [G, T / 2]
        similarity, partner = propose(unit[:, in_a], unit[:, in_b], valid[:, in_a], valid[:, in_b])
        merged_away = select(similarity, removed, None if penalty is None else penalty[:, in_a])
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
        a, b: rows from ``_unit_rows`` [B, G, A, D] and [B, G, B, D].
        valid_a, valid_b: [B, G, A, 1] and [B, G, B, 1], false for a row without a direction.

    Returns:
        The similarity to the partner [B, G, A], minus infinity without a valid one, and the
        partner's index in B [B, G, A].
    """
    similarity = a @ b.transpose(-1, -2) / 2.0**52  # [B, G, A, B]
    both = valid_a & valid_b.transpose(-1, -2)
    best = similarity.masked_fill(~both, -math.inf).max(dim=-1)
    return best.values, best.indices


def select(similarity: Tensor, removed: int, penalty: Tensor | None = None) -> Tensor:
    """Select the ``removed`` pairs of the highest score; ties: the lower index of A.

    Args:
        similarity: [B, G, A], of each token of A to its partner.
        penalty: [B, G, A], subtracted from the similarity; a NaN ranks last.

    Returns:
        [B, G, A] bool: whether the token of A merges away.
    """
    score = similarity if penalty is None else similarity - penalty
    score = score.masked_fill(score.isnan(), -math.inf)
    ranked = score.argsort(dim=-1, descending=True, stable=True)
    merged_away = torch.zeros_like(similarity, dtype=torch.bool)
    return merged_away.scatter(-1, ranked[..., :removed], True)


def _groups(
    n: int, r: int, prefix: int, windows: Sequence[int], order: Tensor | None, device: torch.device
) -> Iterator[tuple[Tensor, int, int, Tensor | int]]:
    """For all groups of one length that lose equally many tokens: their tokens [G, T], the first
    place of A in a group, how many tokens merge away, and the index of each group's first token
    afterwards [G, 1]."""
    if not windows:  # one group; its positions count the prefix, so an odd prefix puts B first
        yield torch.arange(prefix, n, device=device)[None], prefix % 2, r, prefix
        return
    if order is None:
        order = torch.arange(n - prefix, device=device)
    parts = (prefix + order.long()).split(list(windows))
    removed = removed_from_windows(r, windows)
    left = [t - lost for t, lost in zip(windows, removed, strict=True)]
    base = [prefix + sum(left[:g]) for g in range(len(windows))]
    kinds = list(zip(windows, removed, strict=True))
    for length, lost in sorted(set(kinds)):
        chosen = [g for g, kind in enumerate(kinds) if kind == (length, lost)]
        tokens = torch.stack([parts[g] for g in chosen])
        begins = torch.cat([torch.full((1, 1), base[g], device=device) for g in chosen])
        yield tokens, 0, lost, begins


def removed_from_windows(r: int, windows: Sequence[int]) -> list[int]:
    """How many tokens each window loses when a step takes ``r`` from all of them together.

    Each of G windows loses r // G, and each of the first r % G one more. What a window of T tokens
    cannot give, beyond T // 2, the next ones give, after the last one the first.
    """
    count = len(windows)
    wanted = [r // count + (g < r % count) for g in range(count)]
    removed = [0] * count
    rest = 0
    for g in [*range(count), *range(count)]:
        rest, wanted[g] = rest + wanted[g], 0
        given = min(rest, windows[g] // 2 - removed[g])
        removed[g] += given
        rest -= given
    return removed


def in_set_b(
    n: int,
    r: int,
    prefix: int,
    windows: Sequence[int],
    order: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Which tokens a step compares the others with (set B) [N] bool; the prefix is in no set."""
    out = torch.zeros(n, dtype=torch.bool, device=device)
    for tokens, first_a, _, _ in _groups(n, r, prefix, windows, order, device):
        out[tokens[:, 1 - first_a :: 2]] = True
    return out


def merge(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Means weighted by size, and sums of sizes, as ``dsm_ext.merge``; any integer map.

    float64 is merged in float64, all other dtypes in float32.
    """
    b, _, c = x.shape
    index = destination.long()
    total = size.new_zeros(b, tokens).scatter_add(1, index, size)
    weighted = x.to(torch.promote_types(x.dtype, torch.float32)) * size[..., None]
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


def merge_metric(keys: Tensor, tokens: Tensor | None = None) -> Tensor:
    """What tokens are compared by, float32.

    Args:
        keys: [B, H, N, D].
        tokens: [B, N, C], after attention's residual, for the metric "keys+tokens".

    Returns:
        The mean of the keys over the heads [B, N, D]; with tokens this mean and the token, each of
        unit length, side by side [B, N, D + C]. A row is zero if one of its parts is of zero length
        or not finite.
    """
    mean = keys.float().mean(1)
    if tokens is None:
        return mean
    parts = [mean.double(), tokens.double()]
    lengths = [part.norm(dim=-1, keepdim=True) for part in parts]
    rows = torch.cat([part / length for part, length in zip(parts, lengths, strict=True)], -1)
    usable = torch.stack([length.isfinite() & (length > 0) for length in lengths]).all(0)
    return rows.where(usable, 0.0).float()


def class_attention(
    q: Tensor, k: Tensor, bias: Tensor | None = None, size: Tensor | None = None
) -> Tensor:
    """The attention [B, H, N] float32 that the class token pays to each token.

    Args:
        q, k: [B, H, N, D].
        bias: [B, 1, 1, N], the log sizes.
        size: [B, N] for a model without a class token: the mean of all queries, weighted by size,
            takes the place of the class token's query.
    """
    query = q[:, :, :1].float()
    if size is not None:
        weights = size / size.sum(1, keepdim=True)
        query = weights[:, None, None] @ q.float()
    scores = query @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1)[:, :, 0]
