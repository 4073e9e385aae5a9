"""Margins of the decisions of a matching.

Tests compare indices exactly, but only for images in which rounding cannot change a decision.
"""

from __future__ import annotations

import math
from contextlib import contextmanager

import torch

from dsm_ext import reference


def decision_margin(metric, r, prefix=0, windows=(), order=None, penalty=None):
    """The least margin of a decision in each image, in float64 [B].

    There are two kinds of decisions. A token that merges has a best partner and a second best: the
    margin is the difference of their similarities. And of all pairs the best r merge: the margin is
    the difference between the worst pair that merges and the best pair that does not.
    """
    b, n, _ = metric.shape
    least = torch.full((b,), math.inf, dtype=torch.float64)
    if r == 0:
        return least
    unit = torch.nn.functional.normalize(metric.double().cpu(), dim=-1)
    order = None if order is None else order.cpu()
    groups = reference.operators._groups(n, r, prefix, windows, order, "cpu")
    for tokens, first_a, removed, _ in groups:
        if removed == 0:
            continue
        in_a, in_b = tokens[:, first_a::2], tokens[:, 1 - first_a :: 2]
        scores = unit[:, in_a] @ unit[:, in_b].transpose(-1, -2)  # [B, G, A, B]
        best = scores.topk(min(2, scores.shape[-1]), dim=-1).values
        score = best[..., 0] if penalty is None else best[..., 0] - penalty[:, in_a].cpu()
        ranked, index = score.sort(dim=-1, descending=True)
        if ranked.shape[-1] > removed:
            gap = ranked[..., removed - 1] - ranked[..., removed]
            least = least.minimum(gap.flatten(1).amin(1))
        if best.shape[-1] > 1:
            gap = (best[..., 0] - best[..., 1]).gather(-1, index[..., :removed])
            least = least.minimum(gap.flatten(1).amin(1))
    return least


@contextmanager
def recorded_margins():
    """Inside this context, each call of ``reference.match`` appends its margins [B] to the list."""
    match, margins = reference.match, []

    def recording(metric, r, prefix=0, windows=(), order=None, penalty=None):
        margins.append(decision_margin(metric, r, prefix, windows, order, penalty))
        return match(metric, r, prefix, windows, order, penalty)

    reference.match = recording
    try:
        yield margins
    finally:
        reference.match = match
