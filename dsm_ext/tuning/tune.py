"""``dsm_ext.tune``: from pictures without labels to a schedule."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext._native import Schedule
from dsm_ext.drawing import chart as charts
from dsm_ext.drawing.chart import Point
from dsm_ext.environment import environment, threads_text
from dsm_ext.error_text import described
from dsm_ext.evaluate import exact_precision, in_precision
from dsm_ext.model import VisionTransformer
from dsm_ext.model.compiled_module import to_schedule
from dsm_ext.tuning.cost import BlockTimes, measure_block_times, steps_of_measuring
from dsm_ext.tuning.judge import Judge
from dsm_ext.tuning.peers import peers_at
from dsm_ext.tuning.pictures import prepared
from dsm_ext.tuning.points import Named, chart_schedules, measure_points
from dsm_ext.tuning.result import Tuned, decide, row
from dsm_ext.tuning.search import Search
from dsm_ext.tuning.state import Known, State, fingerprint
from dsm_ext.tuning.target import Target
from dsm_ext.tuning.template import parameters_like

CANDIDATES = 3  # of the search that the judging half compares
USUAL_TRIES = 80  # for the progress bar alone


def tune(
    model: VisionTransformer,
    pictures: Tensor | str | os.PathLike[str],
    *,
    speedup: float | None = None,
    gmacs: float | None = None,
    latency: float | None = None,
    batch: int = 1,
    precision: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    state: str | os.PathLike[str] | None = None,
    schedules: Mapping[str, Schedule | str] | None = None,
    transform: Callable[[Any], Tensor] | None = None,
    most_pictures: int = 1000,
    chart: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Tuned:
    """Find the schedule of a wanted cost whose answers are nearest to the dense model's.

    The pictures need no labels. One half of them chooses: a search over a few parameters minimises
    KL(dense || merged) on it. The other half judges: it decides what is returned, and tells the
    search when to stop. A model without a head is compared by the cosine of its pooled features.

    Args:
        model: is left as it was.
        pictures: prepared pictures [n, channels, height, width], or a folder with pictures.
        speedup: how many times fewer multiply-adds than the dense model's.
        gmacs: or the multiply-adds of a picture, in billions.
        latency: or the milliseconds of a forward of ``batch`` pictures on this machine, by a table
            of block times that is measured first.
        precision: of the merged model; None is the model's own. The dense answers are in the
            precision of the weights.
        minutes: a limit; the best that was found until then is returned.
        seed: of the order of the search. The same seed gives the same result, unless time ends
            the search or the target is a latency, which is measured.
        state: a file that keeps what was measured. A later call with the same arguments goes on.
        schedules: others to compare, by name.
        transform: from a PIL image to the model's input; None takes what the model's
            ``pretrained_cfg`` says.
        most_pictures: of a folder with more pictures, take so many, evenly spread.
        chart: draw the errors of all methods at three budgets against the measured time into this
            file. It needs matplotlib.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        ValueError: no schedule reaches the target (the message says what can be reached); fewer
            than two pictures can be used; ``state`` is the state of another search.
        TypeError: an argument has another type.
        FileNotFoundError: the folder does not exist or has no pictures.
        ImportError: a chart is asked for, and matplotlib is not installed.
    """
    start = time.monotonic()
    target = _checked(model, Target(speedup, gmacs, latency), batch, minutes, seed)
    if target.latency is None:
        target.budget(model.config, None)  # refuse what cannot be reached before any work
    if chart is not None:
        charts.check(Path(chart), "chart")
    hidden = not progress or not sys.stderr.isatty()
    others = {name: to_schedule(s, model.config) for name, s in (schedules or {}).items()}
    images = prepared(model, pictures, transform, most_pictures, hidden)
    own = model.schedule
    try:
        runner = in_precision(model, precision or model.precision)
        exact = in_precision(model, exact_precision(model))
        of = fingerprint(model, images) | {
            "target": target.to_dict(),
            "precision": runner.precision,
            "seed": seed,
        }
        if target.latency is not None:
            of |= {"batch": batch, "machine": environment()["machine"]}
        kept = State(None if state is None else Path(state), of)
        deadline = math.inf if minutes is None else start + 60 * minutes
        return _tune(
            runner, exact, images, target, batch, kept, seed, others, deadline, hidden,
            None if chart is None else Path(chart),
        )  # fmt: skip
    finally:
        model.schedule = own


def _tune(
    runner: VisionTransformer,
    exact: VisionTransformer,
    images: Tensor,
    target: Target,
    batch: int,
    state: State,
    seed: int,
    others: dict[str, Schedule],
    deadline: float,
    hidden: bool,
    chart: Path | None,
) -> Tuned:
    from tqdm import tqdm

    config = runner.config
    times = None
    if target.latency is not None:
        times = _block_times(runner, images, batch, state, hidden)
    cost, budget = target.budget(config, times)
    choosing, judging = (
        Known(Judge(runner, exact, half), state, name)
        for half, name in ((images[0::2], "choosing"), (images[1::2], "judging"))
    )
    compared = {"dense": Schedule.dense(config.depth)} | peers_at(config, cost, budget) | others
    began = time.monotonic()
    for schedule in tqdm(compared.values(), unit="schedule", desc="compare", disable=hidden):
        for half in (choosing, judging):
            half.errors(schedule)
    each = (time.monotonic() - began) / (2 * len(compared))
    deadline -= CANDIDATES * each  # the judging at the end takes its time

    guided = compared.get("guided")
    with tqdm(total=USUAL_TRIES, unit="try", desc="search", disable=hidden) as bar:

        def tried(search: Search) -> None:
            bar.total = max(USUAL_TRIES, search.count + 1)
            if search.best is not None:
                bar.set_postfix_str(f"{_measure(choosing)} {search.best.errors.mean():.4f}")
            bar.update()

        first = parameters_like(config, guided)
        search = Search(config, cost, budget, first, choosing, judging, seed, tried, deadline)
        finished = search.run()
        bar.total = search.count
        bar.refresh()
    found = [one for one in search.ranking() if one.schedule != guided][:CANDIDATES]
    candidates = {
        f"tuned {i}" if i > 1 else "tuned": one.schedule for i, one in enumerate(found, 1)
    }
    name, verdict = decide(
        None if guided is None else judging.errors(guided),
        [(name, judging.errors(schedule)) for name, schedule in candidates.items()],
        _measure(choosing),
    )
    state.save()
    compared |= candidates
    rows = [
        row(label, schedule, config, choosing.errors(schedule), judging.errors(schedule))
        for label, schedule in compared.items()
    ]
    if times is not None:
        for one_row in rows:
            one_row.milliseconds = 1e3 * times(compared[one_row.name])
    points = []
    if chart is not None:
        own = [one.parameters for one in found if one.schedule == compared[name]]
        parameters = own[0] if own else (found[0].parameters if found else None)
        named = chart_schedules(config, cost, budget, compared, parameters, name)
        points = _draw(chart, named, runner, _batch_of(runner, images, batch), judging, name)
        state.save()
    return Tuned(
        schedule=compared[name],
        text=compared[name].text(),
        name=name,
        verdict=verdict,
        measure=_measure(choosing),
        rows=rows,
        pictures=(len(choosing), len(judging)),
        tries=search.count,
        finished=finished,
        target=target.to_dict(),
        parameters=found[0].parameters.to_dict() if found else None,
        time_error=None if times is None else times.error,
        points=points,
    )


def _draw(
    chart: Path,
    named: list[Named],
    runner: VisionTransformer,
    images: Tensor,
    judging: Known,
    chosen: str,
) -> list[Point]:
    """Judge and time the schedules of the chart, and draw it."""
    points = measure_points(named, runner, images, judging)
    noun = "picture" if len(images) == 1 else "pictures"
    charts.draw(
        points,
        chart,
        f"{len(judging)} pictures; {runner.precision}, {threads_text()}; ring: what tuning "
        f"returned, {chosen}",
        f"milliseconds of a forward of {len(images)} {noun}",
        _measure(judging),
    )
    return points


def _measure(known: Known) -> str:
    return "KL" if known.judge.head else "1 - cosine"


def _block_times(
    model: VisionTransformer, images: Tensor, batch: int, state: State, hidden: bool
) -> BlockTimes:
    """The table of block times: the state's, or measured now."""
    from tqdm import tqdm

    if state.times is not None:
        return BlockTimes.from_dict(model.config, state.times)
    one = _batch_of(model, images, batch)
    steps = steps_of_measuring(model.config)
    with tqdm(total=steps, unit="schedule", desc="block times", disable=hidden) as bar:
        times = measure_block_times(model, one, progress=bar.update)
    state.times = times.to_dict()
    return times


def _batch_of(model: VisionTransformer, images: Tensor, batch: int) -> Tensor:
    """A batch of the pictures to time, on the model's device."""
    weight = next(model.parameters())
    return images[torch.arange(batch) % len(images)].to(weight.device, weight.dtype)


def _checked(model: Any, target: Target, batch: Any, minutes: Any, seed: Any) -> Target:
    """Check the arguments that need no pictures."""
    if not isinstance(model, VisionTransformer):
        raise TypeError(
            f"dsm_ext.tune: expected a dsm_ext.VisionTransformer, got {described(model)}; "
            "dsm_ext.from_timm makes one of timm's model"
        )
    for name, value in (("batch", batch), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"dsm_ext.tune: expected {name} to be an int, got {described(value)}")
    if batch < 1:
        raise ValueError(f"dsm_ext.tune: expected batch to be positive, got {batch}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"dsm_ext.tune: expected minutes to be positive, got {minutes}")
    if model.config.depth < 2:
        raise ValueError("dsm_ext.tune: expected a model of two blocks or more, got one block")
    return target
