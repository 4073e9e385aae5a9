"""Counting what a run has done so far, for its progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

REPORT_SECONDS = 0.5


def start_tally() -> Any:
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


@contextmanager
def reporting(tally: Any, report: Callable[[int, int], None] | None) -> Iterator[None]:
    """Call ``report`` with the tally's counts while the run goes on, and once at its end."""
    if report is None:
        yield
        return
    ended = Event()

    def watch() -> None:
        last = False
        while not last:
            last = ended.wait(REPORT_SECONDS)
            with suppress(RayError):
                report(*ray.get(tally.counts.remote(), timeout=5))

    thread = Thread(target=watch, name="dsm_ext.predict.report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
