"""How far each head looks, and how evenly it spreads its attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def distances(grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """The distances [N, N] between the centres of patches, in patches."""
    gh, gw = grid
    rows, columns = torch.arange(gh, device=device), torch.arange(gw, device=device)
    places = torch.cartesian_prod(rows, columns).float()
    return (places[:, None] - places).norm(dim=2)


def head_figures(q: Tensor, k: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance and entropy of attention among the patches of each picture.

    The attention of a patch's query to the prefix tokens is left out, and the rest adds up to 1.

    Args:
        q, k: [B, H, N, D], queries and keys of the patches.
        apart: [N, N] from ``distances``.

    Returns:
        The distance to the patches that a query looks at, weighted by attention, in patches, and
        the entropy in nats. Both are the means over all queries [B, H].
    """
    scores = (q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)
    logs = scores.log_softmax(3)
    shares = logs.exp()
    distance = (shares * apart).sum(3).mean(2)
    entropy = -(shares * logs).sum(3).mean(2)
    return distance, entropy
