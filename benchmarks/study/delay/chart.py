"""The chart of delays and windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.study.common import style
from dsm_ext.drawing.chart import COLOURS

MIDDLE = 1.6  # the speedup of the map
METHODS = {(0, 0): "ToMe", (2, 0): "delay 2", (0, 7): "windows 7", (2, 7): "both"}
Row = dict[str, Any]


def draw(result: dict[str, Any], png: Path) -> None:
    """KL by delay, the gain of windows, a map of both, and KL against time."""
    fig, axes = style.figure(2, 2, 5.6, 4.2)
    rows = [row for row in result["rows"] if row["at"] == "speedup"]
    _delays(axes[0][0], rows)
    _windows(axes[0][1], [row for row in result["claims"] if row["claim"] == "windows"])
    _map(axes[1][0], [row for row in rows if row["amount"] == MIDDLE])
    _times(axes[1][1], rows, result)
    style.save(fig, png, style.about(result))


def _delays(axis: Any, rows: list[Row]) -> None:
    chosen = [row for row in rows if row["window"] == 0]
    for number, skip in enumerate(sorted({row["skip"] for row in chosen})):
        own = [row for row in chosen if row["skip"] == skip]
        label = f"delay {skip}" if skip else "no delay (ToMe)"
        style.with_intervals(axis, [row["speedup"] for row in own], _kl(own), label, number)
    _logarithmic(axis)
    axis.legend(frameon=False, fontsize=8.5)
    style.plain(
        axis, "Delay alone, no windows", "times fewer multiply-adds", "KL to dense; lower is better"
    )


def _windows(axis: Any, claims: list[Row]) -> None:
    skips = (0, 2, 4)
    windows = sorted({row["of"]["window"] for row in claims})
    for number, window in enumerate(windows):
        for skip, dash in zip(skips, ("-", "--", ":"), strict=True):
            own = [r for r in claims if r["of"] == {"skip": skip, "window": window}]
            axis.plot(
                [row["speedup"] for row in own], [row["kl"]["mean"] for row in own], f"o{dash}",
                color=COLOURS[number], markersize=3.5, linewidth=1.4,
                label=f"windows {window}, delay {skip}",
            )  # fmt: skip
            if skip != skips[1]:
                continue
            low, high = ([row["kl"][end] for row in own] for end in ("low", "high"))
            axis.fill_between(
                [row["speedup"] for row in own], low, high, color=COLOURS[number], alpha=0.13,
                linewidth=0,
            )  # fmt: skip
    axis.axhline(1, color="#333333", linewidth=1)
    axis.set_yscale("log")
    style.numbers(axis)
    axis.legend(frameon=False, fontsize=7.5, ncols=3, loc="best", columnspacing=1)
    style.plain(
        axis, "Windows against none, at one delay", "times fewer multiply-adds",
        "KL over KL without windows; below 1 is better",
    )  # fmt: skip


def _map(axis: Any, rows: list[Row]) -> None:
    from matplotlib.colors import LogNorm

    skips, windows = (sorted({row[name] for row in rows}) for name in ("skip", "window"))
    values = [
        [next(r["kl"]["mean"] for r in rows if (r["skip"], r["window"]) == (s, w)) for w in windows]
        for s in skips
    ]
    axis.imshow(values, cmap="cividis_r", norm=LogNorm(), aspect="auto")
    best = min(min(line) for line in values)
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            dark = value > best * (max(map(max, values)) / best) ** 0.5
            axis.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=9,
                      color="white" if dark else "black")  # fmt: skip
    axis.set_xticks(range(len(windows)), [str(w) if w else "none" for w in windows])
    axis.set_yticks(range(len(skips)), [str(s) for s in skips])
    axis.set_xlabel("side of the windows, in patches")
    axis.set_ylabel("delay, in blocks")
    axis.set_title(f"KL to dense at {MIDDLE} times fewer multiply-adds", fontsize=10)


def _times(axis: Any, rows: list[Row], result: dict[str, Any]) -> None:
    for number, ((skip, window), label) in enumerate(METHODS.items()):
        own = [row for row in rows if (row["skip"], row["window"]) == (skip, window)]
        style.with_intervals(axis, [100 * row["time"] for row in own], _kl(own), label, number)
    _logarithmic(axis)
    axis.legend(frameon=False, fontsize=8.5)
    machine = result["machine"]
    style.plain(
        axis, f"{machine['processor']}, {machine['threads']} threads, batch "
        f"{result['timed_pictures']}", "time of a forward, % of dense",
        "KL to dense; lower is better",
    )  # fmt: skip
    axis.title.set_fontsize(8.5)


def _kl(rows: list[Row]) -> list[dict[str, float]]:
    return [row["kl"] for row in rows]


def _logarithmic(axis: Any) -> None:
    axis.set_yscale("log")
    style.numbers(axis)
