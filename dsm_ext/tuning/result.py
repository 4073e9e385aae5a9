"""What tuning returns: the schedule, and how it compares with others on both halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dsm_ext._native import Config, Schedule
from dsm_ext.drawing.chart import Point
from dsm_ext.tuning.judge import Errors
from dsm_ext.tuning.search import paired


@dataclass
class Row:
    """A schedule with its cost and its errors on the half that chose and the half that judged."""

    name: str
    schedule: str
    gmacs: float
    speedup: float
    """Times fewer multiply-adds than the dense model's."""
    choosing_error: float
    judging_error: float
    choosing_agreement: float | None
    """Same answers as the dense model's, in per cent. None without a head."""
    judging_agreement: float | None
    milliseconds: float | None = None
    """Of a forward, predicted by the table of block times. None where no latency was asked for."""


@dataclass
class Tuned:
    """What ``dsm_ext.tune`` returns."""

    schedule: Schedule
    """Assign it to a model's ``schedule``, or export the model with it."""
    text: str
    """The schedule as a text for ``Schedule.parse`` and ``--schedule``."""
    name: str
    """The row that was returned: "guided" or "tuned", perhaps with a number."""
    verdict: str
    """Why this row was returned, in a sentence."""
    measure: str
    """What the errors are: "KL", or "1 - cosine" for a model without a head."""
    rows: list[Row]
    pictures: tuple[int, int]
    """How many pictures chose and judged."""
    tries: int
    """How many schedules the search measured, in this run and those that it went on from."""
    finished: bool
    """Whether the search came to its end before the time limit."""
    target: dict[str, float]
    parameters: dict[str, Any] | None
    """What the search found best on the choosing half. None if it found nothing."""
    time_error: float | None
    """The largest error of the table of block times on whole forwards, as a share."""
    points: list[Point]
    """What the chart shows. Empty if none was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        value = {
            name: getattr(self, name) for name in vars(self) if name not in ("schedule", "rows")
        }
        return value | {
            "rows": [asdict(row) for row in self.rows],
            "points": [asdict(point) for point in self.points],
            "pictures": list(self.pictures),
        }


def row(name: str, schedule: Schedule, config: Config, choosing: Errors, judging: Errors) -> Row:
    """Make the row of a schedule from its errors."""
    plan = schedule.plan(config)
    return Row(
        name,
        schedule.text(),
        plan.multiply_adds / 1e9,
        plan.multiply_adds_dense / plan.multiply_adds,
        choosing.mean(),
        judging.mean(),
        choosing.agreement(),
        judging.agreement(),
    )


def decide(
    guided: Errors | None, candidates: Sequence[tuple[str, Errors]], measure: str
) -> tuple[str, str]:
    """Choose the row to return by the errors on the judging half.

    The best candidate is returned if it beats the guided schedule by more than the standard error
    of their paired difference. This is told by the smooth errors, which have less noise; the usual
    error must not be larger either.

    Args:
        candidates: names and errors of what the search found; may be empty if guided is not None.

    Returns:
        The name of the row, and a sentence that says why.
    """
    if not candidates:
        return "guided", "guided is returned: the search has found nothing else yet"
    name, best = min(candidates, key=lambda candidate: sum(candidate[1].smooth))
    if guided is None:
        return name, f"{name} is returned: no guided schedule reaches this target"
    difference, deviation = paired(best.smooth, guided.smooth)
    soft = "softened KL" if measure == "KL" else measure
    said = f"{soft} of {name} less that of guided is {difference:+.3g} +- {deviation:.2g}"
    if -difference > deviation and best.mean() <= guided.mean():
        return name, f"{name} is returned: on the judging half, {said}"
    return "guided", (
        "guided is returned, because nothing that was tried is better on the judging half by more "
        f"than noise: {said}"
    )
