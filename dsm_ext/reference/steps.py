"""The merge steps of a block: all that merges as a unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dsm_ext.reference.operators import in_set_b, removed_from_windows, window_order
from dsm_ext.reference.rotary import RotaryRule


@dataclass
class TokenState:
    """The tokens of a batch, and what is known about each.

    x: [B, N, C].
    size: [B, N] float32, how many patches each token stands for.
    source: [B, gh * gw] int64, the token that holds each patch.
    location: [B, N, 2], or None if nobody needs it.
    windows: how many tokens each window has, while the tokens are in windows.
    """

    x: Tensor
    size: Tensor
    source: Tensor
    location: Tensor | None
    windows: list[int] = field(default_factory=list)


def run_steps(
    ops: Any,
    state: TokenState,
    steps: Any,
    metric: Tensor,
    importance: Tensor | None,
    protect: float,
    prefix: int,
    grid: tuple[int, int],
    rotary: RotaryRule,
) -> None:
    """Merge the tokens of a state, step by step.

    Args:
        ops: the module with ``match`` and ``merge``.
        state: is changed.
        steps: a block's steps, which have ``r`` and ``window``.
        metric: [B, N, D], by which tokens are compared.
        importance: [B, N], the attention to each token. None: pairs rank by similarity alone.
        protect, prefix, grid: of the schedule's rule, the model and the image.
        rotary: where a merged token is.
    """
    for step in steps:
        penalty = None if importance is None else protect * metric.shape[1] * importance
        chosen = _choice(step, metric, prefix, state.windows, grid)
        n, r, order, state.windows, left = chosen
        destination = ops.match(
            metric, r, prefix=prefix, windows=state.windows, order=order, penalty=penalty
        )
        tokens = n - r
        metric, _ = ops.merge(metric, state.size, destination, tokens)
        if importance is not None:
            sums = importance.new_zeros(len(importance), tokens)
            importance = sums.scatter_add(1, destination.long(), importance)
        if state.location is not None and rotary.location == "centroid":
            state.location, _ = ops.merge(state.location, state.size, destination, tokens)
        elif state.location is not None:
            in_b = in_set_b(n, r, prefix, state.windows, order, metric.device)
            state.location = _of_set_b(state.location, destination.long(), tokens, in_b)
        state.x, state.size = ops.merge(state.x, state.size, destination, tokens)
        state.source = destination.gather(1, state.source).long()
        state.windows = left


def _choice(
    step: Any, metric: Tensor, prefix: int, windows: list[int], grid: tuple[int, int]
) -> tuple[int, int, Tensor | None, list[int], list[int]]:
    """How many tokens there are, how many of them to remove, their order in windows if they are not
    in it yet, and how many tokens each window has before and after the step."""
    n = metric.shape[1]
    if step.window == 0:
        return n, min(step.r, (n - prefix) // 2), None, [], []
    order = None
    if not windows:
        order, windows = window_order(grid, step.window, metric.device)
        order = order.int()
    r = min(step.r, sum(t // 2 for t in windows))
    removed = removed_from_windows(r, windows)
    return n, r, order, windows, [t - lost for t, lost in zip(windows, removed, strict=True)]


def _of_set_b(location: Tensor, destination: Tensor, tokens: int, in_b: Tensor) -> Tensor:
    """Locations after a step that leaves each token of B, and each that stays, where it was."""
    out = location.new_empty(len(location), tokens, 2)
    for part in (~in_b, in_b):  # where a token of A and one of B meet, that of B is written last
        index = destination[:, part, None].expand(-1, -1, 2)
        out = out.scatter(1, index, location[:, part])
    return out
