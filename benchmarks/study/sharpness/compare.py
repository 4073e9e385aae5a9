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
PEERS = tuple(name for name in TRAININGS if name != "SAM")


def compare(settings: Settings, runs: Runs) -> dict[str, Any]:
    """The figures of the part, from what was measured of each model."""
    values = next(iter(runs.values()))
    schedules = [key.removeprefix("answers ") for key in values if key.startswith("answers ")]
    methods = [key.removeprefix("sharpness ") for key in values if key.startswith("sharpness ")]
    sharp = {name: _sharpness(runs, name, methods, settings.seeds) for name in TRAININGS}
    less_lost = {
        peer: {s: _less_lost(runs, peer, s, settings.seeds) for s in schedules if s != "dense"}
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
                "tolerance": tolerance_verdict(less_lost[peer]),
                "sharpness": {m: sharpness_verdict(sharp[peer], sharp["SAM"], m) for m in MEASURES},
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


def _less_lost(runs: Runs, peer: str, schedule: str, seeds: int) -> dict[str, Any]:
    """By how many points of accuracy less a model loses under a schedule if SAM trained it, and the
    ratio of its KL to the peer's. Both with intervals over the digits; a digit counts once, with
    its mean over the seeds."""

    def lost(name: str) -> Tensor:
        return _digits(runs, name, "dense", "right", seeds) - _digits(
            runs, name, schedule, "right", seeds
        )

    kl = [_digits(runs, name, schedule, "kl", seeds) for name in ("SAM", peer)]
    return {
        "accuracy": bootstrapped(100 * (lost(peer) - lost("SAM"))).to_dict(),
        "kl": ratio(*kl).to_dict(),
    }


def _digits(runs: Runs, name: str, schedule: str, what: str, seeds: int) -> Tensor:
    """The mean over the seeds [digits]."""
    own = [runs[name, seed][f"answers {schedule}"][what] for seed in range(seeds)]
    return torch.tensor(own, dtype=torch.double).mean(0)


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


def tolerance_verdict(less_lost: dict[str, Any]) -> str:
    """Whether a model that SAM trained loses less accuracy under merging.

    It holds if the interval is above 0 for more schedules than a twentieth, which chance would
    give, and below 0 for none. It does not hold if it is the other way round.
    """
    above = sum(of["accuracy"]["low"] > 0 for of in less_lost.values())
    below = sum(of["accuracy"]["high"] < 0 for of in less_lost.values())
    return _verdict(above > len(less_lost) / 20 and not below, below > above)


def sharpness_verdict(peer: dict[str, Any], sam: dict[str, Any], measure: str) -> str:
    """Whether merging makes the loss sharper, and SAM lessens this.

    It holds if under each method each seed's loss becomes sharper without SAM, and rises by a
    smaller factor with SAM. It does not hold if no seed's factor is smaller with SAM, or if no
    seed's loss becomes sharper without SAM.
    """
    pairs = [
        (a, b)
        for method, of in peer[measure].items()
        if method != "dense"
        for a, b in zip(of["ratios"], sam[measure][method]["ratios"], strict=True)
    ]
    holds = all(a > 1 and a > b for a, b in pairs)
    return _verdict(holds, all(a <= b for a, b in pairs) or all(a <= 1 for a, b in pairs))


def _verdict(holds: bool, fails: bool) -> str:
    if holds:
        return "holds here"
    return "does not hold here" if fails else "cannot be told from this"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
