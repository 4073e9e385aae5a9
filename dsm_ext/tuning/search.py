"""The search: it changes a few parameters, one after another, and keeps what lowers the error.

A pattern search: in a sweep each parameter moves by its step in both directions. After a sweep
without a gain the steps are halved. At the end, some moves change two parameters at once. The
order of the moves follows from the seed, and every error that was measured is remembered, so a
search that starts again with these errors takes the same way.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from dsm_ext._native import Config, Schedule
from dsm_ext.tuning.judge import Errors
from dsm_ext.tuning.state import Known
from dsm_ext.tuning.template import Cost, Parameters, fit

STEPS = {"slope": 0.8, "bend": 0.8, "protect": 0.1}  # in the first sweep
HALVINGS = 2  # of the steps, at most
PAIRS = 16  # moves of two parameters at the end
LEAST_FOR_GIVING_UP = 64  # pictures
CLEARLY = 2.0  # standard errors of a paired difference, by which a schedule is given up
GAIN = 0.5  # standard errors by which one must be better: smaller gains are noise, and add up


@dataclass
class Try:
    """Parameters that were tried, their schedule at the budget, and its errors."""

    parameters: Parameters
    schedule: Schedule
    errors: Errors

    def smooth(self) -> float:
        return sum(self.errors.smooth) / len(self.errors.smooth)


class OutOfTime(Exception):
    """The time limit is over; the search ends with what it has."""


class Search:
    """Searches on the choosing half, and asks the judging half when to stop.

    Args:
        start: the parameters of the first try.
        choosing, judging: the errors of schedules on the two halves.
        tried: is called after each try that was measured.
        deadline: on the clock of ``time.monotonic``.
    """

    def __init__(
        self,
        config: Config,
        cost: Cost,
        budget: float,
        start: Parameters,
        choosing: Known,
        judging: Known,
        seed: int,
        tried: Callable[[Search], None] = lambda search: None,
        deadline: float = math.inf,
    ) -> None:
        self.config, self.cost, self.budget, self.start = config, cost, budget, start
        self.choosing, self.judging = choosing, judging
        self.random = random.Random(seed)
        self.tried, self.deadline = tried, deadline
        self.tries: dict[str, Try] = {}  # complete ones, by the text of the schedule
        self.count = 0
        self.best: Try | None = None

    def run(self) -> bool:
        """Search to the end. Return False if the time was over before."""
        try:
            self._run()
        except OutOfTime:
            return False
        return True

    def ranking(self) -> list[Try]:
        """The complete tries, those with the smallest error first."""
        return sorted(self.tries.values(), key=Try.smooth)

    def _run(self) -> None:
        for parameters in self._starts():
            self._attempt(parameters)
        if self.best is None:
            return
        steps = dict(STEPS)
        halvings = lost = 0
        judged = self._judged()
        while lost < 2:
            before = self.best
            names = list(self.best.parameters.to_dict())
            self.random.shuffle(names)
            for name in names:
                self._move(name, steps)
            if self.best is before:
                if halvings == HALVINGS:
                    break
                halvings += 1
                steps = {name: step / 2 for name, step in steps.items()}
                continue
            now = self._judged()  # stop when the other half no longer gains
            lost = 0 if now < judged else lost + 1
            judged = min(judged, now)
        for _ in range(PAIRS):
            names = self.random.sample(list(self.best.parameters.to_dict()), 2)
            changed = self.best.parameters
            for name in names:
                changed = self.random.choice([*self._neighbours(changed, name, steps), changed])
            self._attempt(changed)

    def _starts(self) -> Iterator[Parameters]:
        """The first tries. A late start cannot reach every budget; then an earlier one may."""
        yield self.start
        for skip in range(self.start.skip - 1, -1, -1):
            if self.best is not None:
                return
            yield self.start.changed(skip=skip)

    def _judged(self) -> float:
        assert self.best is not None
        self._check_time()
        errors = self.judging.errors(self.best.schedule)
        return sum(errors.smooth) / len(errors.smooth)

    def _move(self, name: str, steps: dict[str, float]) -> None:
        """Try the neighbours in one parameter, and go on in a direction that gains."""
        assert self.best is not None
        for sign in (1, -1):
            while True:
                here = self.best.parameters
                found = [p for p, s in self._signed(here, name, steps) if s == sign]
                if not any(self._attempt(parameters) for parameters in found):
                    break

    def _neighbours(self, p: Parameters, name: str, steps: dict[str, float]) -> list[Parameters]:
        return [parameters for parameters, _ in self._signed(p, name, steps)]

    def _signed(
        self, p: Parameters, name: str, steps: dict[str, float]
    ) -> list[tuple[Parameters, int]]:
        """The neighbours of some parameters in one of them, each with its direction."""
        depth, side = self.config.depth, max(self.config.grid)
        value = getattr(p, name)
        values: list[tuple[object, int]] = []
        if name in steps:
            step = steps[name]
            values = [(round(value + step, 6), 1), (round(value - step, 6), -1)]
            if name == "protect":
                values = [(v, s) for v, s in values if float(str(v)) >= 0]
        elif name == "skip":
            values = [(v, s) for v, s in ((value + 1, 1), (value - 1, -1)) if 0 <= v < depth - 1]
        elif name == "local":
            most = depth - 1 - p.skip
            values = [(v, s) for v, s in ((value + 1, 1), (value - 1, -1)) if 0 <= v <= most]
        elif name == "window" and p.local > 0:
            sides = sorted({math.ceil(side / n) for n in (1, 2, 3, 4)} | {value})
            i = sides.index(value)
            values = [(v, 1) for v in sides[i + 1 : i + 2]] + [
                (v, -1) for v in sides[max(i - 1, 0) : i]
            ]
        elif name == "metric":
            values = [("keys" if value == "keys+tokens" else "keys+tokens", 1)]
        elif name == "proportional":
            values = [(not value, 1)]
        return [(p.changed(**{name: v}), s) for v, s in values]

    def _attempt(self, parameters: Parameters) -> bool:
        """Measure some parameters. Return whether they are the best so far."""
        schedule = fit(self.config, parameters, self.cost, self.budget)
        if schedule is None or schedule.text() in self.tries:
            return False
        best = self.best
        self._check_time()
        worse = None if best is None else partial(clearly_worse, best=best.errors)
        errors = self.choosing.errors(schedule, worse)
        self.count += 1
        found = Try(parameters, schedule, errors)
        better = False
        if len(errors.error) == len(self.choosing):
            self.tries[schedule.text()] = found
            better = best is None or better_than(errors, best.errors)
        if better:
            self.best = found
        self.tried(self)
        return better

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime


def clearly_worse(errors: Errors, best: Errors) -> bool:
    """Whether the pictures so far show that a schedule is worse than the best one."""
    count = len(errors.smooth)
    if count < LEAST_FOR_GIVING_UP:
        return False
    mean, deviation = paired(errors.smooth, best.smooth[:count])
    return mean > CLEARLY * deviation


def better_than(errors: Errors, best: Errors) -> bool:
    """Whether a schedule is better than the best one so far by more than a little noise."""
    mean, deviation = paired(errors.smooth, best.smooth)
    return mean < 0 and -mean > GAIN * deviation


def paired(first: list[float], second: list[float]) -> tuple[float, float]:
    """The mean of the differences of pairs, and the standard error of this mean."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    if count < 2:
        return mean, math.inf
    variance = sum((d - mean) ** 2 for d in differences) / (count - 1)
    return mean, math.sqrt(variance / count)
