"""Bootstrapped intervals: how far the mean over a few pictures can be trusted.

A bootstrap draws as many pictures as there are, with replacement, and computes the figure again.
The interval holds the middle 95 % of many such figures. Source: B. Efron, "Bootstrap Methods:
Another Look at the Jackknife", 1979.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

DRAWS = 2000
_SHARE = 0.95
_CHUNK = 200  # draws at once: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval around it."""

    mean: float
    low: float
    high: float

    def includes(self, value: float) -> bool:
        """Whether a value is inside. A difference whose interval includes 0 is noise."""
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, float]:
        """As JSON holds it."""
        return asdict(self)


def bootstrapped(
    values: Tensor,
    statistic: Callable[[Tensor], Tensor] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of a figure over pictures. The same seed gives the same interval.

    For the difference of two methods, give the differences of each picture: the pictures of both
    are then the same in every draw, and their difficulty cancels out.

    Args:
        values: [n, ...], one row for each picture, float or bool.
        statistic: from drawn rows [draws, n, ...] to figures [draws]; None: the mean of all values.

    Raises:
        ValueError: there are no values.
    """
    if values.numel() == 0:
        raise ValueError("dsm_ext.intervals: expected one value or more, got none")
    values = values.double()
    figure = statistic or _mean
    generator = torch.Generator().manual_seed(seed)
    count = len(values)
    found = []
    for start in range(0, draws, _CHUNK):
        shape = (min(_CHUNK, draws - start), count)
        found.append(figure(values[torch.randint(count, shape, generator=generator)]))
    edges = torch.tensor([(1 - _SHARE) / 2, (1 + _SHARE) / 2], dtype=torch.double)
    low, high = torch.cat(found).nanquantile(edges).tolist()
    return Interval(figure(values[None]).item(), low, high)


def ratio(over: Tensor, under: Tensor, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The interval of mean(over) / mean(under). Both are drawn for the same pictures.

    Args:
        over, under: [n], values of the same pictures in the same order.
    """
    both = torch.stack([over.double(), under.double()], 1)
    return bootstrapped(both, _ratio, draws, seed)


def _mean(drawn: Tensor) -> Tensor:
    return drawn.flatten(1).mean(1)


def _ratio(drawn: Tensor) -> Tensor:
    means = drawn.mean(1)  # [draws, 2]
    return means[:, 0] / means[:, 1]
