"""The schedules that are compared: every delay with every window."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.study.common.methods import at_cost
from dsm_ext import Config, Schedule
from dsm_ext.tuning.peers import most_removed

SKIPS = (0, 1, 2, 4, 6)
WINDOWS = (0, 5, 7, 14)  # sides in patches; 0: no windows
COUNTS = (4, 8, 12, 16, 20)  # r
SPEEDUPS = (1.2, 1.4, 1.6, 1.8, 2.0)  # times fewer multiply-adds
SPANS = (0, 1, 2, 3, 5, 7, 9)  # blocks with windows
SPAN_OF = (2, 7, 1.6)  # the delay, window and speedup at which their number is varied


@dataclass(frozen=True)
class Cell:
    """One schedule of the comparison.

    at: what the schedules of a group have in common: "r" or "speedup", or "span" for schedules of
        one speedup that differ in the number of blocks with windows.
    amount: the r or the speedup.
    local: how many blocks merge in windows, after the delay.
    """

    at: str
    amount: float
    skip: int
    window: int
    local: int

    def schedule(self, config: Config) -> Schedule | None:
        """None if a block cannot remove so many, or if so long a delay cannot save as much."""
        if self.at != "r":
            return at_cost(config, self.skip, self.local, self.window, self.amount)
        if self.amount > most_removed(config.grid, self.window):
            return None
        local, window = (self.local, self.window) if self.window else (0, 7)
        return Schedule.dsm(
            config.depth, r=int(self.amount), skip=self.skip, local=local, window=window
        )


def end_of_windows(depth: int) -> int:
    """The first block that merges in the whole picture again, as in the paper: 7 of 12."""
    return round(7 * depth / 12)


def cells(depth: int) -> list[Cell]:
    """All schedules, by r, then by speedup, then by the number of blocks with windows."""
    end = end_of_windows(depth)
    found = [
        Cell(at, amount, skip, window, max(end - skip, 0) if window else 0)
        for at, amounts in (("r", COUNTS), ("speedup", SPEEDUPS))
        for amount in amounts
        for skip in SKIPS
        for window in WINDOWS
        if skip < depth
    ]
    skip, window, speedup = SPAN_OF
    return found + [Cell("span", speedup, skip, window, n) for n in SPANS if skip + n <= depth]
