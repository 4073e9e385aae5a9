"""How close the decisions of a matching were, so that indices can be compared exactly where they
were not a matter of rounding."""

from __future__ import annotations

import math
from contextlib import contextmanager

import torch

from dsm_ext import reference


def decision_margin(metric, r, prefix=0, windows=(), order=None):
    """[B]: the least difference of two similarities that decided something, in float64.

    What decides: for a pair that merges, its token's best partner against the second best; and for
    the choice of pairs, the worst that merges against the best that does not.
    """
    b, n, _ = metric.shape
    least = torch.full((b,), math.inf, dtype=torch.float64)
    if r == 0:
        return least
    unit = torch.nn.functional.normalize(metric.double().cpu(), dim=-1)
    order = None if order is None else order.cpu()
    for tokens, first_a, removed, _ in reference._groups(n, r, prefix, windows, order, "cpu"):
        if removed == 0:
            continue
        in_a, in_b = tokens[:, first_a::2], tokens[:, 1 - first_a :: 2]
        scores = unit[:, in_a] @ unit[:, in_b].transpose(-1, -2)  # [B, G, A, B]
        best = scores.topk(min(2, scores.shape[-1]), dim=-1).values
        ranked, index = best[..., 0].sort(dim=-1, descending=True)
        if ranked.shape[-1] > removed:
            gap = ranked[..., removed - 1] - ranked[..., removed]
            least = least.minimum(gap.flatten(1).amin(1))
        if best.shape[-1] > 1:
            gap = (best[..., 0] - best[..., 1]).gather(-1, index[..., :removed])
            least = least.minimum(gap.flatten(1).amin(1))
    return least


@contextmanager
def recorded_margins():
    """Within it, ``reference.match`` notes its margins; gives a list of tensors [B]."""
    match, margins = reference.match, []

    def recording(metric, r, prefix=0, windows=(), order=None):
        margins.append(decision_margin(metric, r, prefix, windows, order))
        return match(metric, r, prefix, windows, order)

    reference.match = recording
    try:
        yield margins
    finally:
        reference.match = match
