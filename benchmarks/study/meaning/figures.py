"""From the errors of each picture to ratios of windows to global steps, with intervals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsm_ext.intervals import Interval, bootstrapped, ratio

Errors = dict[str, dict[str, Any]]  # by the keys of ``kinds.schedules``
TINY = 1e-5  # a smaller mean KL is mostly float32's rounding
GROUPS = ("whole schedules", "one block")


def figures(errors: Errors, cosines: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    """The figures of one kind of pictures.

    Args:
        cosines: what ``likeness`` gives, by window; 0: a global step.
    """
    rows = []
    for key, of in errors.items():
        case, window = split_key(key)
        if window and f"{case} window 0" in errors:
            row = compared(of, errors[f"{case} window 0"])
            rows.append({"case": case, "window": window, **row})
    return {
        "rows": rows,
        "mean_ratio": {
            group: {str(window): mean_ratio(errors, group, window) for window in cosines if window}
            for group in GROUPS
        },
        "likeness": likenesses(cosines),
    }


def split_key(key: str) -> tuple[str, int]:
    """What is done, and in which windows, from a key such as "1.7 skip 1 window 7"."""
    case, _, window = key.rpartition(" window ")
    return case, int(window)


def compared(local: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Errors of windows beside those of global steps on the same pictures."""
    own, other = _kl(local), _kl(whole)
    same, kept = (100 * torch.tensor(of["same"]).double() for of in (local, whole))
    tiny = min(own.mean().item(), other.mean().item()) < TINY
    return {
        "kl": _interval(bootstrapped(own)),
        "kl_global": _interval(bootstrapped(other)),
        "ratio": None if tiny else _interval(ratio(own, other)),
        "points": _interval(bootstrapped(same - kept)),
    }


def mean_ratio(
    errors: Errors, group: str, window: int, over: Errors | None = None
) -> dict[str, float] | None:
    """KL of windows over that of global steps, the geometric mean over all cases of a group.

    Args:
        group: of ``GROUPS``.
        over: the errors of the same pictures changed. The figure is then their ratio over this one.

    Returns:
        None if all KLs are too small to be compared.
    """
    both = [errors] if over is None else [over, errors]
    columns = []
    for key in errors:
        case, own = split_key(key)
        if own != window or case.startswith("block") != (group == GROUPS[1]):
            continue
        if any(f"{case} window 0" not in of for of in both):
            continue
        four = [_kl(of[name]) for of in both for name in (key, f"{case} window 0")]
        if min(kl.mean().item() for kl in four) >= TINY:
            columns += four
    if not columns:
        return None
    size = 2 * len(both)

    def statistic(drawn: Tensor) -> Tensor:
        logs = drawn.mean(1).log().unflatten(1, (-1, size))  # [draws, cases, size]
        signs = torch.tensor([1.0, -1.0, -1.0, 1.0][:size], dtype=logs.dtype)
        return (logs * signs).sum(2).mean(1).exp()

    return _interval(bootstrapped(torch.stack(columns, 1), statistic))


def likenesses(cosines: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    """Mean cosines of neighbours, strangers, and of the tokens that each kind of step merges."""
    near, far = (torch.tensor(cosines[0][name]) for name in ("neighbours", "strangers"))
    return {
        "neighbours": _interval(bootstrapped(near)),
        "strangers": _interval(bootstrapped(far)),
        "nearer": _interval(bootstrapped(near - far)),
        "pairs": {
            str(window): _interval(bootstrapped(torch.tensor(of["pairs"])))
            for window, of in cosines.items()
        },
    }


def _kl(errors: dict[str, Any]) -> Tensor:
    return torch.tensor(errors["kl"], dtype=torch.float64)


def _interval(interval: Interval) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in interval.to_dict().items()}
