"""What schedules cost: the plan's multiply-adds, or the time of this machine."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dsm_ext._native import Config, MergeRule, Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.timing import synchronized, time_in_turn
from dsm_ext.tuning.template import Parameters, cheapest, first_parameters, schedule_for

MERGING, SECOND_HALF = ("match", "merge"), ("norm2", "fc1", "fc2")
SHARES, FEW_SHARES = (0.05, 0.1, 0.2, 0.35), (0.08, 0.25)
CHECKED_SHARES = (0.07, 0.15, 0.28)
RULES = [(metric, protect) for metric in ("keys", "keys+tokens") for protect in (0.0, 0.3)]
Table = dict[int, float]


def multiply_adds(config: Config) -> Callable[[Schedule], float]:
    """The cost of a schedule in multiply-adds, as timm and the papers count them."""
    return lambda schedule: float(schedule.plan(config).multiply_adds)


@dataclass
class BlockTimes:
    """The time of a forward, from a table of the blocks' times by their number of tokens.

    A block's time is that of its attention by the tokens before the block, of its merge steps by
    the same tokens, and of its MLP by the tokens after it. The last block has tables of its own,
    because it computes the pooled rows alone.
    """

    config: Config
    rest: float = 0.0
    """Seconds before and after the blocks."""
    scale: float = 1.0
    """What whole forwards take over what the sums of the parts say."""
    error: float = 0.0
    """The largest error of the model on whole forwards, as a share of the time measured."""
    tables: dict[str, Table] = field(default_factory=dict)

    def __call__(self, schedule: Schedule) -> float:
        """The seconds of a forward."""
        plan = schedule.plan(self.config)
        total = self.rest
        last = len(plan.blocks) - 1
        for i, block in enumerate(plan.blocks):
            end = " last" if i == last else ""
            total += at(self.tables["attention" + end], block.tokens_in)
            total += at(self.tables["mlp" + end], block.tokens_in if end else block.tokens_out)
            if not end:
                for step in schedule[i]:
                    table = self.tables.get(_rule(step.window > 0, schedule.rule), {})
                    total += at(table, block.tokens_in)
        return total * self.scale

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        tables = {name: sorted(table.items()) for name, table in self.tables.items()}
        return {"rest": self.rest, "scale": self.scale, "error": self.error, "tables": tables}

    @classmethod
    def from_dict(cls, config: Config, value: dict[str, Any]) -> BlockTimes:
        tables = {name: {int(n): s for n, s in rows} for name, rows in value["tables"].items()}
        return cls(config, value["rest"], value["scale"], value["error"], tables)


def at(table: Table, tokens: int) -> float:
    """The value of a table between its nearest entries; beyond its ends, the nearest entry.

    An empty table, of a model too short to measure it, gives 0.
    """
    known = sorted(table)
    if not known:
        return 0.0
    i = bisect_left(known, tokens)
    if i == len(known):
        return table[known[-1]]
    if known[i] == tokens or i == 0:
        return table[known[i]]
    low, high = known[i - 1], known[i]
    part = (tokens - low) / (high - low)
    return table[low] * (1 - part) + table[high] * part


def measure_block_times(
    model: VisionTransformer,
    images: Tensor,
    rounds: int = 5,
    progress: Callable[[], None] = lambda: None,
) -> BlockTimes:
    """Measure the table on this machine, and check it against whole forwards.

    Args:
        model: its schedule changes; its precision is the one that is measured.
        images: [B, channels, height, width], the batch whose time counts.
        rounds: profiles of each schedule; the table has their medians.
        progress: is called after each of ``steps_of_measuring`` schedules.
    """
    config = model.config
    times = BlockTimes(config)
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    rests = []
    for schedule in _measured(config):
        model.schedule = schedule
        plan = model.plan
        model.profile(images)
        profiles = [model.profile(images) for _ in range(rounds)]
        rests.append(_median(profiles, lambda p: _sum(p["before"]) + _sum(p["after"])))
        for i, block in enumerate(plan.blocks):
            parts = [_parts(p["blocks"][i], p["threads"]) for p in profiles]
            attention, merging, mlp = (statistics.median(c) for c in zip(*parts, strict=True))
            end = " last" if i == config.depth - 1 else ""
            found["attention" + end][block.tokens_in].append(attention)
            found["mlp" + end][block.tokens_in if end else block.tokens_out].append(mlp)
            if schedule[i] and not end:
                local = schedule[i][0].window > 0
                found[_rule(local, schedule.rule)][block.tokens_in].append(merging)
        progress()
    times.rest = statistics.median(rests)
    times.tables = {
        name: {tokens: statistics.median(values) for tokens, values in table.items()}
        for name, table in found.items()
    }
    _check(times, model, images, rounds)
    progress()
    return times


def steps_of_measuring(config: Config) -> int:
    """How often ``measure_block_times`` reports progress."""
    return len(list(_measured(config))) + 1


def _measured(config: Config) -> Iterator[Schedule]:
    """The schedules whose profiles fill the table: they pass through many token counts."""
    start = first_parameters(config).changed(skip=0)
    yield Schedule.dense(config.depth)
    yield cheapest(config)
    for metric, protect in RULES:
        for local in (0, config.depth):
            usual = (metric, protect, local) == (start.metric, start.protect, 0)
            parameters = start.changed(metric=metric, protect=protect, local=local)
            for share in SHARES if usual else FEW_SHARES:
                yield schedule_for(config, parameters, share)


def _checked(config: Config) -> dict[str, Schedule]:
    start = first_parameters(config)
    found = {"dense": Schedule.dense(config.depth)}
    for share in CHECKED_SHARES:
        found[f"{share}"] = schedule_for(config, start, share)
    found["local"] = schedule_for(
        config, Parameters(0, local=config.depth // 2, window=start.window), 0.1
    )
    return found


def _check(times: BlockTimes, model: VisionTransformer, images: Tensor, rounds: int) -> None:
    """Scale the model to whole forwards, and note its largest error on them."""
    schedules = _checked(model.config)
    measured = forward_seconds(model, schedules, images, rounds)
    times.scale = statistics.median(measured[n] / times(s) for n, s in schedules.items())
    times.error = max(abs(times(s) / measured[n] - 1) for n, s in schedules.items())


def forward_seconds(
    model: VisionTransformer,
    schedules: Mapping[str, Schedule | str],
    images: Tensor,
    rounds: int = 5,
    least: float = 0.1,
) -> dict[str, float]:
    """The median seconds of a forward with each schedule. All take turns."""

    def call(schedule: Schedule | str) -> Callable[[], Any]:
        def run() -> None:
            model.schedule = schedule
            model(images)

        return synchronized(run, images.device)

    calls = {name: call(schedule) for name, schedule in schedules.items()}
    rates = time_in_turn(calls, 1, rounds, least)
    return {name: 1 / rate["median"] for name, rate in rates.items()}


def _rule(local: bool, rule: MergeRule) -> str:
    """The name of the table for merge steps of one kind."""
    protected = " protected" if rule.protect > 0 else ""
    return f"merge {'local' if local else 'global'} {rule.metric}{protected}"


def _parts(block: dict[str, float], threads: int) -> tuple[float, float, float]:
    merging = sum(block.get(stage, 0.0) for stage in MERGING)
    mlp = sum(block.get(stage, 0.0) for stage in SECOND_HALF)
    return (_sum(block) - merging - mlp) / threads, merging / threads, mlp / threads


def _sum(part: dict[str, float]) -> float:
    return sum(part.values())


def _median(profiles: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(value(p) / p["threads"] for p in profiles)
