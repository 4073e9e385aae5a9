"""What a tuned schedule may cost: the budget, and the errors of budgets that cannot be met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dsm_ext._native import Config, Schedule
from dsm_ext.tuning.cost import BlockTimes, multiply_adds
from dsm_ext.tuning.template import Cost, cheapest


@dataclass(frozen=True)
class Target:
    """What the user asked for: one of three."""

    speedup: float | None = None
    """Times fewer multiply-adds than the dense model's."""
    gmacs: float | None = None
    """Billions of multiply-adds."""
    latency: float | None = None
    """Milliseconds of a forward on this machine."""

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "dsm_ext.tune: expected one of speedup, gmacs and latency, got "
                f"{' and '.join(given) or 'none'}"
            )
        ((name, value),) = given.items()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                f"dsm_ext.tune: expected {name} to be a number, got {type(value).__name__}"
            )
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"dsm_ext.tune: expected {name} to be positive, got {value}")

    def budget(self, config: Config, times: BlockTimes | None) -> tuple[Cost, float]:
        """The cost of a schedule, and how much it may be.

        Args:
            times: needed for a latency.

        Raises:
            ValueError: no schedule is that cheap, or the dense model is. The message says what can
                be reached.
        """
        cost: Cost = multiply_adds(config)
        if self.latency is not None:
            assert times is not None
            cost, budget = times, self.latency / 1e3
        elif self.gmacs is not None:
            budget = self.gmacs * 1e9
        else:
            assert self.speedup is not None
            budget = cost(Schedule.dense(config.depth)) / self.speedup
        dense, least = cost(Schedule.dense(config.depth)), cost(cheapest(config))
        if not least <= budget < dense:
            raise ValueError(self._out_of_reach(dense, least))
        return cost, budget

    def _out_of_reach(self, dense: float, least: float) -> str:
        if self.latency is not None:
            return (
                f"dsm_ext.tune: expected latency to be at least {1e3 * least:.3g} ms, which the "
                f"fastest schedule takes on this machine, and below {1e3 * dense:.3g} ms, which "
                f"the dense model takes, got {self.latency:g} ms"
            )
        if self.gmacs is not None:
            return (
                f"dsm_ext.tune: expected gmacs to be at least {least / 1e9:.3f}, which the "
                f"cheapest schedule needs, and below the dense model's {dense / 1e9:.3f}, got "
                f"{self.gmacs:g}"
            )
        return (
            "dsm_ext.tune: expected speedup to be larger than 1 and at most "
            f"{math.floor(100 * dense / least) / 100:.2f}, the largest that a schedule reaches for "
            f"this model and image size, got {self.speedup:g}"
        )

    def __str__(self) -> str:
        if self.latency is not None:
            return f"at most {self.latency:g} ms a forward"
        if self.gmacs is not None:
            return f"at most {self.gmacs:g} GMACs"
        return f"{self.speedup:g} times fewer multiply-adds"

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}
