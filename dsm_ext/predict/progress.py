"""What a run tells its user while it goes on: pictures a second, errors, the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tqdm import tqdm

LINE_SECONDS = 30  # between two lines where stderr is no terminal


class Progress:
    """A progress bar on stderr; where that is no terminal, a line every half minute.

    Args:
        done: pictures that earlier runs finished.
        count: returns how many pictures there are, or None if that is not known. It may take long
            and is called in a thread.
    """

    def __init__(self, done: int, count: Callable[[], int | None]) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc="predict", unit=" images", initial=done, smoothing=0.05, dynamic_ncols=True,
            mininterval=0.5 if terminal else LINE_SECONDS, disable=not terminal,
        )  # fmt: skip
        self._lines = not terminal
        self._start = self._said = time.monotonic()
        self._done = done
        self.rows = self.errors = 0
        self._first: tuple[float, int] | None = None  # when the first rows came, and how many
        self.total: int | None = None
        self._count = count
        threading.Thread(target=self._find_total, daemon=True).start()

    def _find_total(self) -> None:
        try:
            self.total = self._count()
        except (OSError, ValueError):
            return  # the run itself reports what cannot be read
        self._bar.total = self.total

    def report(self, rows: int, errors: int) -> None:
        """Show how many rows this run has made so far, and how many of them have an error."""
        self._bar.update(rows - self.rows)
        self.rows, self.errors = rows, errors
        if errors:
            self._bar.set_postfix(errors=errors, refresh=False)
        now = time.monotonic()
        if self._first is None and rows:
            self._first = now, rows
        if self._lines and now - self._said >= LINE_SECONDS:
            self._said = now
            print(self._line(now), file=sys.stderr, flush=True)

    def steady(self, end: float) -> float | None:
        """Images a second from the first rows to ``end``. None if there were no later rows."""
        if self._first is None or self.rows == self._first[1]:
            return None
        return (self.rows - self._first[1]) / (end - self._first[0])

    def _line(self, now: float) -> str:
        speed = self.rows / (now - self._start)
        of, left = "", ""
        if self.total is not None:
            of = f" of {self.total}"
            remaining = max(self.total - self._done - self.rows, 0) / max(speed, 1e-9)
            left = f", {tqdm.format_interval(remaining)} left"
        return (
            f"predict: {self._done + self.rows}{of} pictures, {speed:.1f} images/s, "
            f"{self.errors} errors{left}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
