"""Interrupting a command that has a result to finish."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they kill, end a command as Ctrl-C does.

    The first of these signals raises KeyboardInterrupt. While the command then finishes its files,
    a second one does nothing: people press Ctrl-C twice. A third one raises KeyboardInterrupt
    again, for a disk that does not answer.
    """
    count = 0

    def handle(*_: Any) -> None:
        nonlocal count
        count += 1
        if count != 2:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):  # print must not be called while it is running
            os.write(2, b"dsm-ext: finishing the last file; interrupt once more to lose it\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
