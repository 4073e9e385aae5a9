"""Delays at equal multiply-adds: how long to wait before the first block that merges."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from dsm_ext._native import Config, Schedule
from dsm_ext.analysis.result import Delay
from dsm_ext.intervals import bootstrapped
from dsm_ext.tuning.cost import multiply_adds
from dsm_ext.tuning.peers import constant_at

ENOUGH = 100  # pictures; fewer leave the order of delays open even where the intervals part


def delayed_schedules(config: Config, speedup: float) -> dict[int, Schedule]:
    """For each skip from 0 to half of the depth, the schedule that merges nothing in so many first
    blocks, removes the same number of tokens in each other block, up to one, and needs ``speedup``
    times fewer multiply-adds than the dense model. Skips that cannot save as much are left out.

    Raises:
        ValueError: no skip can save as much, or ``speedup`` asks for no saving.
    """
    cost = multiply_adds(config)
    dense = cost(Schedule.dense(config.depth))
    most = config.grid[0] * config.grid[1] // 2
    reached = dense / cost(Schedule.tome(config.depth, most))
    if not 1 < speedup <= reached:
        raise ValueError(
            "dsm_ext.analyze: expected speedup to be larger than 1 and at most "
            f"{math.floor(100 * reached) / 100:.2f}, the largest that a step in every block "
            f"reaches, got {speedup:g}"
        )
    found = {}
    for skip in range(config.depth // 2 + 1):
        kinds = [None] * skip + [0] * (config.depth - skip)
        schedule = constant_at(config, kinds, cost, dense / speedup)
        if schedule is not None:
            found[skip] = schedule
    return found


def compare_delays(
    config: Config,
    schedules: Mapping[int, Schedule],
    errors: Mapping[int, Tensor],
    agreements: Mapping[int, float | None],
) -> list[Delay]:
    """Each delay's errors, and how much worse it is than the best on the same pictures.

    Args:
        errors: by skip [n].
    """
    best = errors[_best(errors)]
    rows = []
    for skip, schedule in schedules.items():
        plan = schedule.plan(config)
        rows.append(
            Delay(
                skip,
                schedule.text(),
                plan.multiply_adds_dense / plan.multiply_adds,
                bootstrapped(errors[skip]),
                agreements[skip],
                bootstrapped(errors[skip] - best),
            )
        )
    return rows


def suggest(delays: list[Delay], measure: str, pictures: int) -> tuple[Delay, str]:
    """The delay of the smallest error, and a sentence that says which others may be as good."""
    best = min(delays, key=lambda delay: delay.error.mean)
    alike = [delay for delay in delays if delay is not best and delay.worse.low <= 0]
    error = best.error
    said = (
        f"suggested skip: {best.skip}, as in {best.schedule} ({measure} {error.mean:.4f}, "
        f"{error.low:.4f} to {error.high:.4f}, with {best.speedup:.2f} times fewer "
        "multiply-adds); "
    )
    if len(delays) == 1:
        return best, said + "no other delay can save as much"
    if len(alike) == len(delays) - 1:
        return best, said + f"{pictures} pictures are too few to tell the delays apart"
    said += "the smallest error of all delays"
    if alike:
        said += f"; {_named(alike)} may be as good, because the difference is noise"
    if pictures < ENOUGH:
        said += f"; {pictures} pictures are few: give {ENOUGH} or more to be sure"
    return best, said


def _named(delays: list[Delay]) -> str:
    skips = [str(delay.skip) for delay in delays]
    return "skip " + " and ".join([", ".join(skips[:-1]), skips[-1]] if skips[1:] else skips)


def _best(errors: Mapping[int, Tensor]) -> int:
    return min(errors, key=lambda skip: float(errors[skip].mean()))
