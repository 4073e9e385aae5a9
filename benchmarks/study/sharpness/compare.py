"""Compares the trainings of the part: what merging costs each, and how sharp it makes each loss.

Everything is paired: a seed of one training with the same seed of the other, whose first weights
are the same, and each held-out digit with itself. The mean of ratios is the geometric one.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.sharpness.settings import TRAININGS, Settings
from dsm_ext.intervals import bootstrapped, ratio

Runs = dict[tuple[str, int], dict[str, Any]]
"""What the worker measured, by training and seed."""

MEASURES = {
    "eigenvalue": "largest eigenvalue",
    "step": "rise, one step",
    "ball": "rise in the ball",
}
SHARPER = 1.1
"""A smaller factor is no rise: the paper's are 9.9 and 1.6."""
PEERS = tuple(name for name in TRAININGS if name != "SAM")


def compare(settings: Settings, runs: Runs) -> dict[str, Any]:
    """The figures of the part, from what was measured of each model."""
    values = next(iter(runs.values()))
    schedules = [key.removeprefix("answers ") for key in values if key.startswith("answers ")]
    methods = [key.removeprefix("sharpness ") for key in values if key.startswith("sharpness ")]
    sharp = {name: _sharpness(runs, name, methods, settings.seeds) for name in TRAININGS}
    at_cost = [name for name in schedules if name.endswith("x")]
    less_lost = {
        peer: {s: _less_lost(runs, peer, [s], settings.seeds) for s in at_cost}
        | {"all together": _less_lost(runs, peer, at_cost, settings.seeds)}
        for peer in PEERS
    }
    return {
        "settings": asdict(settings),
        "test_digits": len(values["answers dense"]["right"]),
        "trainings": {name: _training(settings, runs, name) for name in TRAININGS},
        "answers": {
            name: {s: _answers(runs, name, s, settings.seeds) for s in schedules}
            for name in TRAININGS
        },
        "less_lost": less_lost,
        "sharpness": sharp,
        "verdict": {
            peer: {
                "accuracy": tolerance_verdict(less_lost[peer]["all together"], "accuracy", 0),
                "kl": tolerance_verdict(less_lost[peer]["all together"], "kl", 1),
                **{m: sharpness_verdict(sharp[peer], sharp["SAM"], m) for m in MEASURES},
            }
            for peer in PEERS
        },
    }


def _training(settings: Settings, runs: Runs, name: str) -> dict[str, Any]:
    recipe = settings.recipe(name, 0)
    own = [runs[name, seed] for seed in range(settings.seeds)]
    return {
        "epochs": recipe.epochs,
        "gradients_per_step": 2 if recipe.optimizer == "sam" else 1,
        "seconds": [of["training seconds"] for of in own],
        "length": [of["length of the weights"] for of in own],
    }


def _answers(runs: Runs, name: str, schedule: str, seeds: int) -> dict[str, list[float]]:
    """Of each seed: right answers and same answers as dense in per cent, and the mean KL."""
    own = [runs[name, seed][f"answers {schedule}"] for seed in range(seeds)]
    return {
        "accuracy": [100 * _mean(of["right"]) for of in own],
        "same": [100 * _mean(of["same"]) for of in own],
        "kl": [_mean(of["kl"]) for of in own],
    }


def _less_lost(runs: Runs, peer: str, schedules: list[str], seeds: int) -> dict[str, Any]:
    """By how many points of accuracy less a model loses under merging if SAM trained it, and the
    ratio of its KL to the peer's.

    The values are means over the schedules. The intervals are over the digits; a digit counts once,
    with its mean over the seeds. "by_seed" has the figure of each seed.
    """

    def values(name: str, what: str, of: list[str]) -> Tensor:  # [seeds, digits]
        own = [[runs[name, seed][f"answers {s}"][what] for s in of] for seed in range(seeds)]
        return torch.tensor(own, dtype=torch.double).mean(1)

    lost = [values(n, "right", ["dense"]) - values(n, "right", schedules) for n in (peer, "SAM")]
    less = 100 * (lost[0] - lost[1])
    sam, other = (values(n, "kl", schedules) for n in ("SAM", peer))
    return {
        "accuracy": {**bootstrapped(less.mean(0)).to_dict(), "by_seed": less.mean(1).tolist()},
        "kl": {
            **ratio(sam.mean(0), other.mean(0)).to_dict(),
            "by_seed": (sam.mean(1) / other.mean(1)).tolist(),
        },
    }


def _sharpness(runs: Runs, name: str, methods: list[str], seeds: int) -> dict[str, Any]:
    """Of each measure and method: the values of the seeds, and their ratios to the dense ones."""

    def values(method: str, measure: str) -> list[float]:
        own = [runs[name, seed][f"sharpness {method}"] for seed in range(seeds)]
        if measure == "eigenvalue":
            return [of["eigenvalue"] for of in own]
        return [of["rises"][0 if measure == "step" else -1] for of in own]

    found: dict[str, Any] = {
        measure: {
            m: {
                "values": values(m, measure),
                "ratios": [
                    merged / dense
                    for merged, dense in zip(
                        values(m, measure), values("dense", measure), strict=True
                    )
                ],
            }
            for m in methods
        }
        for measure in MEASURES
    }
    found["change"] = max(
        runs[name, seed][f"sharpness {m}"]["eigenchange"] for seed in range(seeds) for m in methods
    )
    found["loss"] = {
        m: [runs[name, seed][f"sharpness {m}"]["loss"] for seed in range(seeds)] for m in methods
    }
    return found


def geometric_mean(values: list[float]) -> float:
    """NaN if a value is not positive."""
    if min(values) <= 0:
        return math.nan
    return math.exp(_mean([math.log(v) for v in values]))


def tolerance_verdict(less_lost: dict[str, Any], what: str, none: float) -> str:
    """Whether a model that SAM trained tolerates merging better.

    It holds if the interval over the digits and the figures of all seeds are on the better side of
    the value ``none``, which says that there is no difference. It does not hold if all are on the
    other side.

    Args:
        what: "accuracy", of which SAM shall lose less, or "kl", whose ratio shall be small.
    """
    of = less_lost[what]
    values = [of["low"], of["high"], *of["by_seed"]]
    above, below = all(v > none for v in values), all(v < none for v in values)
    return _verdict(*((above, below) if what == "accuracy" else (below, above)))


def sharpness_verdict(peer: dict[str, Any], sam: dict[str, Any], measure: str) -> str:
    """Whether merging makes the loss sharper, and SAM lessens this.

    Sharper means by more than a tenth. It holds if under each method each seed's loss becomes
    sharper without SAM, and rises by a smaller factor with SAM. It does not hold if no seed's loss
    becomes sharper without SAM, or if no seed's factor is smaller with SAM.
    """
    pairs = [
        (a, b)
        for method, of in peer[measure].items()
        if method != "dense"
        for a, b in zip(of["ratios"], sam[measure][method]["ratios"], strict=True)
    ]
    holds = all(a > SHARPER and a > b for a, b in pairs)
    return _verdict(holds, all(a <= b for a, b in pairs) or all(a <= SHARPER for a, _ in pairs))


def _verdict(holds: bool, fails: bool) -> str:
    if holds:
        return "holds here"
    return "does not hold here" if fails else "cannot be told from this"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
