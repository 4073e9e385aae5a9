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

    The arguments are those of ``rates_in_turn``.
    """
    return {
        name: summarize(rates)
        for name, rates in rates_in_turn(calls, images, rounds, least).items()
    }


def rates_in_turn(
    calls: dict[str, Callable[[], Any]], images: int, rounds: int = 9, least: float = 0.2
) -> dict[str, list[float]]:
    """Measure the images per second of each call in each round.

    Every call runs in every round, so that a slow period of the machine affects all calls alike.
    The order of the calls is reversed from round to round, so that no call always follows the same
    other one. In its turn a call runs once to fill the caches, if it is short, and is then repeated
    for at least ``least`` seconds. An extra first round is not counted.

    Args:
        calls: by name. Each call processes ``images`` images and has finished when it returns.
        images: the number of images in a call.
    """
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in list(calls.items())[:: 1 if turn % 2 else -1]:
            if rates[name] and images / rates[name][-1] < least:
                call()
            start = time.perf_counter()
            count = 0
            while count == 0 or time.perf_counter() - start < least:
                call()
                count += 1
            if turn > 0:
                rates[name].append(count * images / (time.perf_counter() - start))
    return rates


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
