"""Measures every delay with every window: errors, multiply-adds and time."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from torch import Tensor
from tqdm import tqdm

from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.part import Study
from benchmarks.study.delay.grid import Cell, cells
from benchmarks.study.delay.summary import Errors, claims, halves, row
from dsm_ext import Schedule, VisionTransformer
from dsm_ext.timing import rates_in_turn

TIMED_PICTURES = 8  # in a forward that is timed
TIMED_COUNT = 16  # r
ROUNDS, LEAST = 9, 0.05


def measure(study: Study) -> dict[str, Any]:
    """A row for each schedule, the pairs that the claims are about, and the best of a half."""
    subject = study.photographs()
    config = subject.model.config
    planned = {cell: cell.schedule(config) for cell in cells(config.depth)}
    schedules = {cell: schedule for cell, schedule in planned.items() if schedule is not None}
    found = _errors(study, schedules)
    times = _times(study, schedules)
    rows = [row(cell, s, config, found[cell], times.get(cell)) for cell, s in schedules.items()]
    return {
        "timed_pictures": TIMED_PICTURES,
        "rows": rows,
        "claims": claims(found),
        "halves": halves(found),
    }


def _errors(study: Study, schedules: dict[Cell, Schedule]) -> dict[Cell, Errors]:
    """The errors of each schedule on all pictures."""
    subject = study.photographs()
    dense: list[Tensor] = []

    def compare(schedule: Schedule) -> dict[str, Any]:
        if not dense:  # nobody needs it where all errors are known from an earlier run
            dense.append(answers(subject.model, "dense", subject.images))
        return errors(answers(subject.model, schedule, subject.images), dense[0])

    found = {}
    for cell, schedule in tqdm(schedules.items(), unit="schedule", desc="errors"):
        kept = study.kept.get(f"errors {schedule.text()}", lambda s=schedule: compare(s))
        found[cell] = Errors.of(kept)
    return found


def _times(study: Study, schedules: dict[Cell, Schedule]) -> dict[Cell, float]:
    """The time of each schedule's forward, as a share of the dense one's in the same round.

    Of the schedules of one r, only those of ``TIMED_COUNT`` are timed, and none of the spans.
    """
    subject = study.photographs()
    groups: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in schedules:
        if cell.at == "speedup" or (cell.at, cell.amount) == ("r", TIMED_COUNT):
            groups[cell.at, cell.amount].append(cell)
    found = {}
    for (at, amount), group in tqdm(groups.items(), unit="group", desc="times"):
        texts = [schedules[cell].text() for cell in group]
        shares = study.kept.get(
            f"times, {ROUNDS} rounds, {at} {amount} {' '.join(texts)}",
            lambda texts=texts: _shares(subject.model, texts, subject.images[:TIMED_PICTURES]),
        )
        found |= dict(zip(group, shares, strict=True))
    return found


def _shares(model: VisionTransformer, schedules: list[str], images: Tensor) -> list[float]:
    def call(schedule: str) -> None:
        model.schedule = schedule
        model(images)

    calls = {text: (lambda text=text: call(text)) for text in ("dense", *schedules)}
    rates = rates_in_turn(calls, len(images), ROUNDS, LEAST)
    return [
        statistics.median(d / own for d, own in zip(rates["dense"], rates[text], strict=True))
        for text in schedules
    ]
