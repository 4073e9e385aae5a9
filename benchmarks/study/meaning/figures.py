"""From the errors of each picture to ratios of windows to global steps, with intervals."""

from __future__ import annotations

from typing import Any

import torch

from dsm_ext.intervals import Interval, bootstrapped, ratio


def figures(
    errors: dict[str, dict[str, Any]],
    cosines: dict[int, dict[str, list[float]]],
    windows: list[int],
) -> dict[str, Any]:
    """The figures of one kind of pictures.

    Args:
        errors: by the keys of ``measure.schedules``.
        cosines: what ``likeness`` gives, by window; 0: a global step.
        windows: those that are compared with global steps.
    """
    rows = []
    for key in errors:
        case, _, window = key.rpartition(" window ")
        if int(window) in windows and f"{case} window 0" in errors:
            rows.append(
                {
                    "case": case,
                    "window": int(window),
                    **compared(errors[key], errors[f"{case} window 0"]),
                }
            )
    return {"rows": rows, "likeness": likenesses(cosines)}


def compared(local: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Errors of windows beside those of global steps on the same pictures."""
    own, other = (torch.tensor(of["kl"], dtype=torch.float64) for of in (local, whole))
    same, kept = (100 * torch.tensor(of["same"]).double() for of in (local, whole))
    return {
        "kl": _interval(bootstrapped(own)),
        "kl_global": _interval(bootstrapped(other)),
        "ratio": _interval(ratio(own, other)),
        "difference": _interval(bootstrapped(own - other)),
        "same": _interval(bootstrapped(same)),
        "points": _interval(bootstrapped(same - kept)),
    }


def likenesses(cosines: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    """Mean cosines of neighbours, strangers, and of the tokens that each kind of step merges."""
    whole = {name: torch.tensor(values) for name, values in cosines[0].items()}
    near, far = whole["neighbours"], whole["strangers"]
    pairs: dict[str, Any] = {
        str(window): _interval(bootstrapped(torch.tensor(of["pairs"])))
        for window, of in cosines.items()
    }
    return {
        "neighbours": _interval(bootstrapped(near)),
        "strangers": _interval(bootstrapped(far)),
        "nearer": _interval(bootstrapped(near - far)),
        "pairs": pairs,
    }


def verdict(row: dict[str, Any]) -> str:
    """Whether windows keep less, more, or neither: by the interval of the KLs' difference."""
    difference = Interval(**row["difference"])
    if difference.includes(0):
        return "noise"
    return "windows lose" if difference.mean > 0 else "windows win"


def _interval(interval: Interval) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in interval.to_dict().items()}

