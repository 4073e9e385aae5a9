"""The published methods at a wanted cost, to compare a tuned schedule with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dsm_ext._native import Config, Global, Local, Schedule
from dsm_ext.reference import window_order
from dsm_ext.tuning.template import HALVINGS, Cost, least_that_fits

MOST_SPEEDUP = 256.0  # no schedule saves as much: the first block is whole
NAMES = ("ToMe", "DFE", "DSM", "guided")


def peers_at(config: Config, cost: Cost, budget: float) -> dict[str, Schedule]:
    """ToMe, DFE, DSM and guided schedules that cost at most ``budget``, and as much as fits.

    The first three remove the same number of tokens in each merging block, up to one: a whole
    number in all blocks would miss the budget by up to a tenth. A method that cannot reach the
    budget is left out.
    """
    found = {}
    for name in NAMES:
        if name == "guided":
            schedule = guided_at(config, cost, budget)
        else:
            schedule = constant_at(config, _kinds(config, name), cost, budget)
        if schedule is not None:
            found[name] = schedule
    return found


def guided_at(config: Config, cost: Cost, budget: float) -> Schedule | None:
    """The guided schedule for a budget. None if no guided schedule is that cheap."""
    low, high = 1.0, MOST_SPEEDUP
    best = None
    for _ in range(HALVINGS + 8):
        middle = (low + high) / 2
        try:
            schedule = Schedule.guided(config, middle)
        except ValueError:  # no guided schedule saves as much
            high = middle
            continue
        if cost(schedule) > budget:
            low = middle
        else:
            high, best = middle, schedule
    return best


def constant_at(
    config: Config, kinds: Sequence[int | None], cost: Cost, budget: float
) -> Schedule | None:
    """The schedule that removes the same number of tokens, up to one, in each merging block, and
    costs at most ``budget``, and as much as fits.

    Args:
        kinds: for each block None (it merges nothing), 0 (one step over the whole image), or the
            side of the windows in patches.

    Returns:
        None if no such schedule is that cheap.

    Raises:
        ValueError: there is not a kind for each block.
    """
    if len(kinds) != config.depth:
        raise ValueError(
            f"dsm_ext: expected a kind for each of {config.depth} blocks, got {len(kinds)}"
        )
    merging = {kind for kind in kinds if kind is not None}
    most = min((most_removed(config.grid, window) for window in merging), default=0)
    return least_that_fits(partial(_with_count, config, kinds), most, cost, budget)


def most_removed(grid: tuple[int, int], window: int) -> int:
    """How many patches one step can remove: half of each window's.

    Args:
        grid: rows and columns of patches.
        window: the side in patches; 0: the whole image is one group.
    """
    groups = window_order(grid, window)[1] if window else [grid[0] * grid[1]]
    return sum(patches // 2 for patches in groups)


def _kinds(config: Config, name: str) -> list[int | None]:
    """Where a published method with its usual values merges, as ``constant_at`` takes it."""
    default = {"ToMe": Schedule.tome, "DFE": Schedule.dfe, "DSM": Schedule.dsm}[name](config.depth)
    return [default[i][0].window if default[i] else None for i in range(config.depth)]


def _with_count(config: Config, kinds: Sequence[int | None], r: float) -> Schedule:
    """A schedule whose merging blocks remove r tokens on average."""
    blocks: list[Any] = []
    merging = 0
    for window in kinds:
        if window is None:
            blocks.append(None)
            continue
        count = round(r * (merging + 1)) - round(r * merging)
        merging += 1
        blocks.append(Local(count, window) if window else Global(count))
    return Schedule(blocks)
