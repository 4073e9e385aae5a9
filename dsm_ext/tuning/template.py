"""The template of the search: a few parameters that give a schedule for every budget.

Each merging block removes a share of the patches that are left. The budget decides how large the
shares are, and the parameters decide everything else. The last block never merges: where one token
is pooled, its step changes no logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from dsm_ext._native import Config, Global, Local, MergeRule, Schedule

MOST_SHARE = 0.5  # no step can remove more of its tokens
LEAST_IN_WINDOW = 8  # tokens, on average; smaller windows leave little to choose from
HALVINGS = 24  # of an amount to merge: finer amounts give the same whole counts

Cost = Callable[[Schedule], float]


@dataclass(frozen=True)
class Parameters:
    """What the search chooses."""

    skip: int
    """How many blocks merge nothing before the first block that merges."""
    slope: float = 0.0
    """The logarithm of the last merging block's share over the first one's."""
    bend: float = 0.0
    """The logarithm of the middle blocks' share over that of the outer ones, beside the slope."""
    local: int = 0
    """How many of the first merging blocks merge inside windows, while these have enough tokens."""
    window: int = 7
    """The side of these windows in patches."""
    metric: str = "keys+tokens"
    protect: float = 0.3
    proportional: bool = True

    def changed(self, **fields: Any) -> Parameters:
        """The same parameters with some other fields."""
        return replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def first_parameters(config: Config) -> Parameters:
    """Where the search starts: the parameters of the guided schedule."""
    window = math.ceil(max(config.grid) / 2)
    return Parameters(skip=config.depth // 4, window=window)


def schedule_for(config: Config, parameters: Parameters, share: float) -> Schedule:
    """The schedule of the parameters in which the merging blocks remove about this share."""
    p = parameters
    gh, gw = config.grid
    patches = gh * gw
    windows = math.ceil(gh / p.window) * math.ceil(gw / p.window)
    merging = config.depth - 1 - p.skip
    blocks: list[Any] = [None] * config.depth
    left, wanted = patches, float(patches)
    for i in range(merging):
        place = i / (merging - 1) - 0.5 if merging > 1 else 0.0  # from -0.5 to 0.5
        factor = math.exp(p.slope * place + p.bend * (0.125 - 2 * place * place))
        wanted *= 1 - min(share * factor, MOST_SHARE)
        r = min(left - round(wanted), left // 2)
        local = i < p.local and left >= LEAST_IN_WINDOW * windows
        if local:  # windows with an odd number of tokens give up less than half of them
            r = min(r, (patches - windows) // 2)
        if r > 0:
            blocks[p.skip + i] = Local(r, p.window) if local else Global(r)
            left -= r
    return Schedule(blocks, p.proportional, MergeRule(p.metric, p.protect))


def fit(config: Config, parameters: Parameters, cost: Cost, budget: float) -> Schedule | None:
    """The schedule of the parameters that merges least among those that cost at most ``budget``.

    Returns:
        None if even the largest shares cost more.
    """
    most = MOST_SHARE * math.exp(abs(parameters.slope) / 2 + abs(parameters.bend))
    return least_that_fits(partial(schedule_for, config, parameters), most, cost, budget)


def least_that_fits(
    make: Callable[[float], Schedule], most: float, cost: Cost, budget: float
) -> Schedule | None:
    """The schedule that merges least among those that cost at most ``budget``, by bisection.

    Args:
        make: the schedule of an amount between 0 and ``most``. More of it must not cost more.

    Returns:
        None if even the schedule of ``most`` costs more.
    """
    low, high = 0.0, most
    best = make(high)
    if cost(best) > budget:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        schedule = make(middle)
        if cost(schedule) > budget:
            low = middle
        else:
            high, best = middle, schedule
    return best


def cheapest(config: Config) -> Schedule:
    """The schedule of the template that merges most, which bounds what can be reached."""
    return schedule_for(config, first_parameters(config).changed(skip=0), MOST_SHARE)


def parameters_like(config: Config, schedule: Schedule | None) -> Parameters:
    """The parameters of the template that come nearest to a schedule, to start a search there.

    Args:
        schedule: None, or a schedule that merges nothing before the last block, gives
            ``first_parameters``.
    """
    start = first_parameters(config)
    blocks = [] if schedule is None else [schedule[i] for i in range(config.depth - 1)]
    merging = [i for i, steps in enumerate(blocks) if steps]
    if schedule is None or not merging:
        return start
    left = float(config.grid[0] * config.grid[1])
    logs = []
    for i in range(merging[0], len(blocks)):
        removed = sum(step.r for step in blocks[i])
        if 0 < removed < left:
            logs.append(math.log(removed / left))
        left -= removed
    local = [i for i in merging if blocks[i][0].window > 0]
    return start.changed(
        skip=merging[0],
        slope=_rounded_slope(logs),
        local=len(local),
        window=blocks[local[0]][0].window if local else start.window,
        metric=schedule.rule.metric,
        protect=schedule.rule.protect,
        proportional=schedule.proportional,
    )


def _rounded_slope(logs: list[float]) -> float:
    """The slope of a line through the logarithms, from end to end, in tenths."""
    count = len(logs)
    if count < 2:
        return 0.0
    places = [i / (count - 1) - 0.5 for i in range(count)]
    mean = sum(logs) / count
    slope = sum(p * (value - mean) for p, value in zip(places, logs, strict=True))
    return round(slope / sum(p * p for p in places), 1) + 0.0
