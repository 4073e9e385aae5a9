"""Timing of calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def time_in_turn(
    calls: dict[str, Callable[[], Any]], images: int, rounds: int = 9, least: float = 0.2
) -> dict[str, dict[str, float]]:
    """Measure the images per second of each call: median and quartiles over the rounds.

    Every call runs in every round, so that a slow period of the machine affects all calls alike.
    In its turn a call is repeated for at least ``least`` seconds. An extra first round is not
    counted.

    Args:
        calls: by name. Each call processes ``images`` images and has finished when it returns.
        images: the number of images in a call.
    """
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            count = 0
            while count == 0 or time.perf_counter() - start < least:
                call()
                count += 1
            if turn > 0:
                rates[name].append(count * images / (time.perf_counter() - start))
    return {name: summarize(values) for name, values in rates.items()}


def summarize(values: list[float]) -> dict[str, float]:
    """The median and the quartiles of some values."""
    if len(values) < 2:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def synchronized(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Wrap a call on a GPU so that it returns only when its work has finished."""
    if device.type != "cuda":
        return call

    def wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return wait
