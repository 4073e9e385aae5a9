"""The points of a tuning's chart: all methods at several budgets, judged and timed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dsm_ext._native import Config, Schedule
from dsm_ext.drawing.chart import Point
from dsm_ext.model import VisionTransformer
from dsm_ext.tuning.cost import forward_seconds
from dsm_ext.tuning.peers import peers_at
from dsm_ext.tuning.state import Known
from dsm_ext.tuning.template import Cost, Parameters, fit

SAVINGS = (0.5, 1.6)  # beside the wanted one: shares of what it saves beyond the dense model
Named = tuple[str, str, Schedule, bool]  # series, label, schedule, chosen


def chart_schedules(
    config: Config,
    cost: Cost,
    budget: float,
    compared: Mapping[str, Schedule],
    parameters: Parameters | None,
    chosen: str,
) -> list[Named]:
    """What the chart shows: the rows of the table, and the methods at two other budgets."""
    dense = cost(Schedule.dense(config.depth))
    speedup = dense / budget
    found: list[Named] = []
    for name, schedule in compared.items():
        series = "tuned" if name.startswith("tuned") else name
        label = f"{schedule_speedup(schedule, config):.2f}x" if name == chosen else ""
        if name.startswith("tuned ") and name != chosen:
            continue
        found.append((series, label, schedule, name == chosen))
    for saving in SAVINGS:
        other = dense / (1 + (speedup - 1) * saving)
        schedules = peers_at(config, cost, other)
        if parameters is not None:
            tuned = fit(config, parameters, cost, other)
            schedules |= {} if tuned is None else {"tuned": tuned}
        found += [(name, "", schedule, False) for name, schedule in schedules.items()]
    return found


def schedule_speedup(schedule: Schedule, config: Config) -> float:
    """Times fewer multiply-adds than the dense model's."""
    plan = schedule.plan(config)
    return plan.multiply_adds_dense / plan.multiply_adds


def measure_points(
    named: list[Named], model: VisionTransformer, images: Tensor, judging: Known
) -> list[Point]:
    """Judge and time all schedules. They take turns, each with forwards of ``images``."""
    schedules = {str(i): schedule for i, (_, _, schedule, _) in enumerate(named)}
    seconds = forward_seconds(model, schedules, images)
    points = []
    for i, (series, label, schedule, chosen) in enumerate(named):
        errors = judging.errors(schedule)
        milliseconds = 1e3 * seconds[str(i)]
        points.append(Point(series, label, milliseconds, errors.mean(), errors.agreement(), chosen))
    return points
