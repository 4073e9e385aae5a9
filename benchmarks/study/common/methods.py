"""Schedules of equal multiply-adds, so that methods are compared at the same saving."""

from __future__ import annotations

from dsm_ext import Config, Schedule
from dsm_ext.tuning.cost import multiply_adds
from dsm_ext.tuning.peers import constant_at, peers_at


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
    return constant_at(config, kinds, multiply_adds(config), dense_cost(config) / speedup)


def methods(config: Config, speedup: float) -> dict[str, Schedule]:
    """ToMe, DFE (delay alone), DSM and guided at equal multiply-adds, if they can save as much."""
    return peers_at(config, multiply_adds(config), dense_cost(config) / speedup)
