"""A peer that is ready to run, and the choice between settings of one peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Call(NamedTuple):
    run: Callable[[], Any]  # logits [B, classes] of the images that the peer was built with
    units: float  # images, operations or bytes of one run
    setting: str = ""
    model: Any = None


def fastest(makers: Mapping[str, Callable[[], Call]]) -> Call:
    """The fastest of several calls, by name. A setting with which a library fails is left out.

    Raises:
        Exception: that of the last setting, if a library fails with all of them.
    """
    calls: dict[str, Call] = {}
    failure: Exception | None = None
    for name, make in makers.items():
        try:
            call = make()
            call.run()
        except Exception as error:  # libraries raise many types
            failure = error
            continue
        calls[name] = call
    if not calls and failure is not None:
        raise failure
    best: dict[str, float] = {}
    for _ in range(3 if len(calls) > 1 else 0):
        for name, call in calls.items():
            best[name] = min(best.get(name, float("inf")), _seconds(call.run))
    return calls[min(calls, key=lambda name: best.get(name, 0.0))]


def _seconds(run: Callable[[], Any], least: float = 0.2) -> float:
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < least:
        run()
        count += 1
    return (time.perf_counter() - start) / count
