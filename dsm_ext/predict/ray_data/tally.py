"""Counting what a run has done so far, for its progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

REPORT_SECONDS = 0.5


def start_tally() -> Any:
    """Start an actor on the driver's machine, which adds up what workers have done."""

    class Tally:  # a class in a function is pickled as it is: its process need not import torch
        def __init__(self) -> None:
            self.rows = self.errors = 0

        def add(self, rows: int, errors: int) -> None:
            self.rows += rows
            self.errors += errors

        def counts(self) -> tuple[int, int]:
            return self.rows, self.errors

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Tally).options(num_cpus=0, scheduling_strategy=here).remote()


class Count:
    """What one of several workers has done and the tally does not know yet.

    All workers together send at most about 100 messages a second.
    """

    def __init__(self, tally: Any, workers: int) -> None:
        self._tally, self._seconds = tally, workers / 100
        self._rows = self._errors = 0
        self._sent = 0.0

    def add(self, rows: int, errors: int) -> None:
        self._rows += rows
        self._errors += errors
        if time.monotonic() - self._sent >= self._seconds:
            self.send()

    def send(self) -> None:
        if self._rows:
            self._tally.add.remote(self._rows, self._errors)
        self._rows = self._errors = 0
        self._sent = time.monotonic()


@contextmanager
def reporting(tally: Any, report: Callable[[int, int], None] | None) -> Iterator[None]:
    """Call ``report`` with the tally's counts while the run goes on, and once if it succeeded."""
    if report is None:
        yield
        return
    ended = Event()

    def tell() -> None:
        with suppress(RayError):  # such as a tally that does not answer in time
            report(*ray.get(tally.counts.remote(), timeout=5))

    def watch() -> None:
        while not ended.wait(REPORT_SECONDS):
            tell()

    thread = Thread(target=watch, name="dsm_ext.predict.report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
    thread.join()
    tell()
