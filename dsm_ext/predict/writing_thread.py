"""A thread that makes calls one after another, for work that an interrupt must not break."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

WAITING = 4  # calls that may wait, such as batches that are to be written


class WritingThread:
    """Makes calls in a thread of its own, in their order.

    Ctrl-C interrupts the main thread only, so a call is made as a whole or not at all. The error of
    a call is raised by a later ``submit``, ``wait`` or ``close``.
    """

    def __init__(self) -> None:
        self._calls: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "dsm_ext.predict.write")

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call later. This waits while more than ``WAITING`` calls are not done."""
        self._calls.append(self._thread.submit(call, *arguments))
        self.wait(WAITING)

    def wait(self, most: int = 0) -> None:
        """Wait until at most ``most`` calls are not done."""
        while self._calls and (len(self._calls) > most or self._calls[0].done()):
            self._calls.popleft().result()

    def close(self) -> None:
        """Make the calls that are left, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
