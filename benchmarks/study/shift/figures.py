"""From what was kept of each corruption and picture to figures with intervals over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.shift import corruptions
from dsm_ext.intervals import Interval, bootstrapped, ratio

CLEAN = "clean"
CONTROLS = ("int8", "noise")
SIZED_FOR = {"noise": "ToMe"}  # the noise has the KL of this method, and says nothing of others
Cells = dict[str, dict[str, Any]]


def figures(cells: Cells) -> dict[str, Any]:
    """All figures of the result.

    A figure of a severity is the mean over the fifteen corruptions. Its interval is drawn over
    pictures, each with all its corruptions, because these are not independent of one another.

    Args:
        cells: what ``measure`` keeps, by "clean" and by corruption and severity, such as "fog 3".
    """
    names = list(cells[CLEAN]["methods"])
    merging = [name for name in names if name not in ("dense", *CONTROLS)]
    controls = [name for name in CONTROLS if name in names]
    severities = corruptions.SEVERITIES
    levels = [0, *severities]
    return {
        "severities": {
            str(level): {name: _row(cells, name, level) for name in names} for level in levels
        },
        "confidence": {
            str(level): _interval(bootstrapped(_confidence(cells, level))) for level in levels
        },
        "lost": {
            str(level): {
                name: _lost(cells, name, level, _controls(name, controls))
                for name in [*merging, *controls]
            }
            for level in severities
        },
        "growth": {
            str(level): {
                name: {
                    "kl": _growth(cells, name, level, "kl"),
                    "change": _growth(cells, name, level, "change"),
                    "kl_over": {
                        control: _growth(cells, name, level, "kl", control)
                        for control in _controls(name, controls)
                    },
                }
                for name in [*merging, *controls]
            }
            for level in severities
        },
        "gain": {
            str(level): {name: _gain(cells, name, level) for name in merging if name != "ToMe"}
            for level in levels
        },
        "kinds": {
            kind: {str(level): _kind(cells, of, level, merging) for level in severities}
            for kind, of in corruptions.KINDS.items()
        },
        "corruptions": {
            name: {str(level): _cell(cells[f"{name} {level}"], names) for level in severities}
            for name in corruptions.NAMES
        },
        "clean": _cell(cells[CLEAN], names),
        "correlations": _correlations(cells, merging),
    }


def _controls(method: str, controls: list[str]) -> list[str]:
    """The controls that a method can be compared with."""
    if method in controls:
        return []
    return [name for name in controls if SIZED_FOR.get(name, method) == method]


def by_picture(
    cells: Cells, method: str, level: int, value: str, names: Sequence[str] | None = None
) -> Tensor:
    """A value of each picture [n] float64: the mean over the corruptions of a severity.

    Args:
        level: the severity; 0: the clean pictures.
        value: "kl", "same", "change" or "right".
        names: of the corruptions; None: all.
    """
    keys = [CLEAN] if level == 0 else [f"{name} {level}" for name in names or corruptions.NAMES]
    rows = [cells[key]["methods"][method][value] for key in keys]
    return torch.tensor(rows, dtype=torch.float64).mean(0)


def _row(cells: Cells, method: str, level: int) -> dict[str, Any]:
    found = {
        "kl": _interval(bootstrapped(by_picture(cells, method, level, "kl"))),
        "same": _interval(bootstrapped(100 * by_picture(cells, method, level, "same"))),
        "change": _interval(bootstrapped(by_picture(cells, method, level, "change"))),
    }
    if "right" in cells[CLEAN]["methods"][method]:
        right = by_picture(cells, method, level, "right")
        found["top1"] = _interval(bootstrapped(100 * right))
        # what merging costs in right answers, which the corruption alone costs the dense model too
        dense = by_picture(cells, "dense", level, "right")
        found["top1_to_dense"] = _interval(bootstrapped(100 * (right - dense)))
    return found


def _lost(cells: Cells, method: str, level: int, controls: list[str]) -> dict[str, Any]:
    """Points of same answers lost beside those lost on clean pictures; also less a control's."""

    def lost(name: str) -> Tensor:
        return 100 * (by_picture(cells, name, 0, "same") - by_picture(cells, name, level, "same"))

    own = lost(method)
    more = {name: _interval(bootstrapped(own - lost(name))) for name in controls}
    return {"points": _interval(bootstrapped(own)), "more_than": more}


def _growth(
    cells: Cells, method: str, level: int, value: str, control: str | None = None
) -> dict[str, float]:
    """How many times larger a value is than on clean pictures; over a control's number of times."""
    columns = [by_picture(cells, method, level, value), by_picture(cells, method, 0, value)]
    if control is not None:
        columns += [by_picture(cells, control, 0, value), by_picture(cells, control, level, value)]
    return _interval(bootstrapped(torch.stack(columns, 1), _alternate_ratio))


def _gain(cells: Cells, method: str, level: int) -> dict[str, Any]:
    """ToMe's KL over a method's, and how many more answers the method keeps.

    "to_clean" is the ratio over that on the clean pictures, "to_mildest" over that at the lowest
    severity.
    """
    over, under = by_picture(cells, "ToMe", level, "kl"), by_picture(cells, method, level, "kl")

    def against(other: int) -> dict[str, float]:
        before = [by_picture(cells, name, other, "kl") for name in (method, "ToMe")]
        return _interval(bootstrapped(torch.stack([over, under, *before], 1), _alternate_ratio))

    kept = by_picture(cells, method, level, "same") - by_picture(cells, "ToMe", level, "same")
    return {
        "ratio": _interval(ratio(over, under)),
        "to_clean": against(0),
        "to_mildest": against(corruptions.SEVERITIES[0]),
        "points": _interval(bootstrapped(100 * kept)),
    }


def _kind(cells: Cells, names: Sequence[str], level: int, merging: list[str]) -> dict[str, Any]:
    """Means over the corruptions of one kind."""
    kl = {name: by_picture(cells, name, level, "kl", names) for name in merging}
    found: dict[str, Any] = {
        "kl": {name: _interval(bootstrapped(values)) for name, values in kl.items()},
        "gain": {
            name: _interval(ratio(kl["ToMe"], values))
            for name, values in kl.items()
            if name != "ToMe"
        },
    }
    alike = [cells[f"{name} {level}"]["likeness"] for name in names]
    found["likeness"] = _rounded({name: _mean([of[name] for of in alike]) for name in alike[0]})
    return found


def _alternate_ratio(drawn: Tensor) -> Tensor:
    """Means of the columns: the first over the second, times the third over the fourth if any."""
    means = drawn.mean(1)  # [draws, columns]
    return (means[:, 0::2] / means[:, 1::2]).prod(1)


def _cell(cell: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The means of one corruption and severity."""
    found: dict[str, Any] = {"likeness": _rounded(cell["likeness"])}
    for name in names:
        of = cell["methods"][name]
        found[name] = {"kl": _mean(of["kl"]), "same": 100 * _mean(of["same"])}
        if "right" in of:
            found[name]["top1"] = 100 * _mean(of["right"])
    if "DFE" in names:
        over, under = (torch.tensor(cell["methods"][name]["kl"]) for name in ("ToMe", "DFE"))
        found["gain"] = _interval(ratio(over, under))
    return {name: _rounded(of) if isinstance(of, dict) else of for name, of in found.items()}


def _correlations(cells: Cells, merging: list[str]) -> dict[str, Any]:
    """Rank correlations over all corruptions and severities, for the KL of each method and ToMe's
    KL over DFE's: with the cosines between patches, and with how sure the dense model is."""
    corrupted = [cell for key, cell in cells.items() if key != CLEAN]
    kls = {
        name: torch.tensor([_mean(cell["methods"][name]["kl"]) for cell in corrupted])
        for name in merging
    }
    if "DFE" in kls:
        kls["ToMe / DFE"] = kls["ToMe"] / kls["DFE"]
    causes = {
        name: torch.tensor([cell["likeness"][name] for cell in corrupted])
        for name in corrupted[0]["likeness"]
    }
    causes["confidence"] = torch.tensor([_mean(cell["confidence"]) for cell in corrupted])
    return {
        name: {cause: round(rank_correlation(kl, of), 3) for cause, of in causes.items()}
        for name, kl in kls.items()
    }


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation of two lists of values [n] without ties."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (x, y)])
    return torch.corrcoef(ranks)[0, 1].item()


def _confidence(cells: Cells, level: int) -> Tensor:
    keys = [CLEAN] if level == 0 else [f"{name} {level}" for name in corruptions.NAMES]
    return torch.tensor([cells[key]["confidence"] for key in keys]).mean(0)


def _interval(interval: Interval) -> dict[str, float]:
    return _rounded(interval.to_dict())


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in values.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
