"""Keeping what Ray says away from the outputs of a program. Ray's log files still have it."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import current_thread
from typing import Any

LOGGERS = ("ray", "ray.data")


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the messages of Ray's loggers, and what its thread writes to stdout."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        for name in LOGGERS:  # a failure is raised
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with redirect_stdout(_WithoutRay(sys.stdout)):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what this process writes to stderr, from C++ too."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class _WithoutRay(io.TextIOBase):
    """An output that drops what Ray's thread prints: it repeats errors, with pages of logs."""

    def __init__(self, output: Any) -> None:
        self._output = output

    def write(self, text: str) -> int:
        if self._output is None or current_thread().name == "ray_listen_error_messages":
            return len(text)
        return self._output.write(text)

    def flush(self) -> None:
        if self._output is not None:
            self._output.flush()

    def fileno(self) -> int:
        return self._output.fileno()

    def isatty(self) -> bool:
        return self._output is not None and self._output.isatty()
