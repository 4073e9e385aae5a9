"""Schedules of equal multiply-adds, so that methods are compared at the same saving."""

from __future__ import annotations

from functools import partial

from dsm_ext import Config, Schedule
from dsm_ext.reference import window_order
from dsm_ext.tuning.cost import multiply_adds
from dsm_ext.tuning.peers import _with_count, peers_at
from dsm_ext.tuning.template import least_that_fits


def dense_cost(config: Config) -> float:
    """The multiply-adds of the dense model for a picture."""
    return multiply_adds(config)(Schedule.dense(config.depth))


def at_cost(config: Config, skip: int, local: int, window: int, speedup: float) -> Schedule | None:
    """A schedule that needs ``speedup`` times fewer multiply-adds than the dense model.

    Args:
        skip: the first blocks that merge nothing.
        local: the blocks after them that merge in windows; the others merge in the whole picture.
        window: the side of a window in patches.

    Returns:
        Every merging block removes the same number of tokens, up to one. None if blocks after so
        long a delay cannot save as much.
    """
    if speedup <= 1:
        raise ValueError(f"expected speedup to be above 1, got {speedup}")
    kinds = [None] * skip + [window] * local + [0] * (config.depth - skip - local)
    most = min(_most(config.grid, side) for side in (0, window) if side in kinds)
    cost = multiply_adds(config)
    make = partial(_with_count, config, kinds)
    return least_that_fits(make, most, cost, dense_cost(config) / speedup)


def _most(grid: tuple[int, int], window: int) -> int:
    """How many tokens a block can remove: half of the patches of each group."""
    groups = window_order(grid, window)[1] if window else [grid[0] * grid[1]]
    return sum(patches // 2 for patches in groups)


def methods(config: Config, speedup: float) -> dict[str, Schedule]:
    """ToMe, DFE (delay alone), DSM and guided at equal multiply-adds, if they can save as much."""
    return peers_at(config, multiply_adds(config), dense_cost(config) / speedup)
