"""The sharpness of a loss: its Hessian's largest eigenvalue, and its worst neighbour in a ball.

Both follow what arXiv 2010.01412 (SAM) means by sharpness: how much the loss rises near the
weights. A loss here is a function without arguments that computes one number [] from the
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
Parts = list[Tensor]
"""One tensor for each parameter; together one vector."""


@dataclass(frozen=True)
class Eigenvalue:
    value: float
    iterations: int
    change: float
    """By which part of itself the value changed in the last iteration."""


def largest_eigenvalue(
    losses: Sequence[Loss],
    parameters: Sequence[Tensor],
    iterations: int,
    tolerance: float = 0.02,
    seed: int = 0,
) -> Eigenvalue:
    """The eigenvalue of the largest size of the Hessian of a mean of losses, by power iteration.

    Args:
        losses: of parts of a batch that are equally large, so that one part at a time is in memory.
        parameters: by which the losses are derived, twice.
        iterations: the most products of the Hessian and a vector.
        tolerance: the iteration ends when the value changes by less than this part of itself.
        seed: of the random vector at the start.
    """
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    value, change, done = 0.0, float("inf"), 0
    while done < iterations and change > tolerance:
        length = norm(vector)
        if length == 0:  # the Hessian is zero
            return Eigenvalue(0.0, done, 0.0)
        vector = [v / length for v in vector]
        product = hessian_times(losses, parameters, vector)
        before, value = (
            value,
            sum((v * h).sum().item() for v, h in zip(vector, product, strict=True)),
        )
        change = abs(value - before) / abs(value) if value else float("inf")
        vector, done = product, done + 1
    return Eigenvalue(value, done, change)


def hessian_times(
    losses: Sequence[Loss], parameters: Sequence[Tensor], vector: Sequence[Tensor]
) -> Parts:
    """The product of the Hessian of the mean of the losses and a vector."""
    total = [torch.zeros_like(p) for p in parameters]
    for loss in losses:
        gradient = torch.autograd.grad(loss(), parameters, create_graph=True)
        along = sum((g * v).sum() for g, v in zip(gradient, vector, strict=True))
        products = torch.autograd.grad(along, parameters, materialize_grads=True)
        for t, h in zip(total, products, strict=True):
            t.add_(h, alpha=1 / len(losses))
    return total


@torch.no_grad()
def rise_in_ball(
    losses: Sequence[Loss], parameters: Sequence[Tensor], radius: float, steps: int
) -> list[float]:
    """How much the mean of the losses rises in the direction that is worst for it.

    The first step goes along the gradient to the edge of the ball, as SAM's ascent does. Each
    further step goes by half of the radius along the gradient there, and back to the edge. The
    parameters are the same afterwards.

    Args:
        radius: of the ball around the parameters, of all of them together.

    Returns:
        The largest rise within the first step, within the first two, and so on: ``steps`` values.
    """
    start = [p.clone() for p in parameters]
    loss, gradient = _gradient(losses, parameters)
    rises: list[float] = []
    for step in range(steps):
        length = radius if step == 0 else radius / 2
        scale = length / (norm(gradient) + 1e-12)
        offset = [p - s + scale * g for p, s, g in zip(parameters, start, gradient, strict=True)]
        scale = radius / (norm(offset) + 1e-12)
        for p, s, o in zip(parameters, start, offset, strict=True):
            p.copy_(s + scale * o)
        there, gradient = _gradient(losses, parameters)
        rises.append(max([there - loss, *rises[-1:]]))
    for p, s in zip(parameters, start, strict=True):
        p.copy_(s)
    return rises


def norm(vector: Sequence[Tensor]) -> float:
    """The length of all parts together."""
    return torch.stack([v.norm() for v in vector]).norm().item()


def _gradient(losses: Sequence[Loss], parameters: Sequence[Tensor]) -> tuple[float, Parts]:
    """The mean of the losses and its gradient."""
    total, gradient = 0.0, [torch.zeros_like(p) for p in parameters]
    for loss in losses:
        with torch.enable_grad():
            value = loss()
            found = torch.autograd.grad(value, parameters)
        total += value.item() / len(losses)
        for g, f in zip(gradient, found, strict=True):
            g.add_(f, alpha=1 / len(losses))
    return total, gradient
