"""From the errors of all schedules to the figures that answer the claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.delay.grid import SKIPS, SPEEDUPS, WINDOWS, Cell
from dsm_ext import Config, Schedule
from dsm_ext.intervals import bootstrapped, ratio

TOGETHER = (
    2,
    7,
)  # the delay and the window of the comparison of delay alone, windows alone and both


@dataclass(frozen=True)
class Errors:
    """Of one schedule by picture: KL to dense in nats [n], and the same answer [n] bool."""

    kl: Tensor
    same: Tensor

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Errors:
        return cls(torch.tensor(kept["kl"], dtype=torch.double), torch.tensor(kept["same"]))


def row(
    cell: Cell, schedule: Schedule, config: Config, errors: Errors, time: float | None
) -> dict[str, Any]:
    """What the tables and charts show of one schedule. ``time`` is a share of the dense
    model's; None: not measured."""
    plan = schedule.plan(config)
    return {
        **asdict(cell),
        "schedule": schedule.text(),
        "gmacs": plan.multiply_adds / 1e9,
        "speedup": plan.multiply_adds_dense / plan.multiply_adds,
        "tokens": plan.tokens_out,
        "time": time,
        "kl": bootstrapped(errors.kl).to_dict(),
        "agreement": bootstrapped(100 * errors.same.double()).to_dict(),
    }


def claims(found: dict[Cell, Errors]) -> list[dict[str, Any]]:
    """Pairs of schedules of equal multiply-adds: the first one's KL over the second one's, and how
    many more answers it keeps, in percentage points; with intervals.

    "delay": without windows, a delay against none. "windows": at one delay, a window against none.
    "both": one delay and one window together against ToMe and against windows alone.
    """
    places = {(c.amount, c.skip, c.window): c for c in found if c.at == "speedup"}
    rows = []
    for claim, speedup, own, than in _pairs():
        cells = [places.get((speedup, *place)) for place in (own, than)]
        if None in cells:  # one of them cannot save as much
            continue
        a, b = (found[cell] for cell in cells if cell is not None)
        gained = 100 * (a.same.double() - b.same.double())
        rows.append(
            {
                "claim": claim,
                "speedup": speedup,
                "of": dict(zip(("skip", "window"), own, strict=True)),
                "than": dict(zip(("skip", "window"), than, strict=True)),
                "kl": ratio(a.kl, b.kl).to_dict(),
                "answers": bootstrapped(gained).to_dict(),
            }
        )
    return rows


def _pairs() -> Iterator[tuple[str, float, tuple[int, int], tuple[int, int]]]:
    """The claim, the speedup, and (delay, window) of the two schedules that are compared."""
    for speedup in SPEEDUPS:
        yield from (("delay", speedup, (skip, 0), (0, 0)) for skip in SKIPS if skip)
        for skip in SKIPS:
            yield from (("windows", speedup, (skip, w), (skip, 0)) for w in WINDOWS if w)
        yield "both", speedup, TOGETHER, (0, 0)
        yield "both", speedup, TOGETHER, (0, TOGETHER[1])


def halves(found: dict[Cell, Errors]) -> list[dict[str, Any]]:
    """For each speedup the delay and window of the lowest KL on every second picture, and how they
    do on the others against ToMe and against ``TOGETHER``."""
    rows = []
    for speedup in SPEEDUPS:
        cells = {(c.skip, c.window): c for c in found if (c.at, c.amount) == ("speedup", speedup)}
        if not {(0, 0), TOGETHER} <= cells.keys():
            continue
        best = min(cells, key=lambda place: found[cells[place]].kl[0::2].mean().item())
        own, tome, paper = (found[cells[place]].kl[1::2] for place in (best, (0, 0), TOGETHER))
        rows.append(
            {
                "speedup": speedup,
                "skip": best[0],
                "window": best[1],
                "kl": bootstrapped(own).to_dict(),
                "to_tome": ratio(own, tome).to_dict(),
                "to_together": ratio(own, paper).to_dict(),
            }
        )
    return rows
