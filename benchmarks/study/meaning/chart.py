"""Draws the KL of windows over that of global steps, for each kind of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.study.common import style
from dsm_ext.drawing.chart import COLOURS, MARKERS

TITLES = {"whole schedules": "whole schedules", "one block": "a step in one block alone"}


def draw(result: dict[str, Any], png: Path) -> None:
    """Draw one row for each kind of pictures and one mark for each window."""
    kinds = result["kinds"]
    figure, (axes,) = style.figure(2, 1, 5.75, 1.3 + 0.62 * len(kinds))
    for axis, (group, title) in zip(axes, TITLES.items(), strict=True):
        for row, of in enumerate(kinds.values()):
            for i, (window, ratio) in enumerate(of["mean_ratio"][group].items()):
                if ratio is not None:
                    y = row + 0.2 * (i - 1)
                    _mark(axis, ratio, y, i, f"windows of {window} x {window} patches")
        axis.axvline(1, color="#444444", linewidth=0.9, zorder=2)
        axis.set_xscale("log")
        style.plain(axis, title, "KL of windows / KL of global steps; lower is better", "")
        low, high = axis.get_xlim()
        steps = (0.25, 0.5, 0.7, 1, 1.4, 2, 4, 8, 16, 32, 64, 128)
        ticks = [tick for tick in steps if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axes[0].set_yticks(range(len(kinds)), [name.replace(", ", ",\n") for name in kinds])
    axes[1].set_yticks(range(len(kinds)), [""] * len(kinds))
    for axis in axes:
        axis.set_ylim(len(kinds) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    first = {label: handle for handle, label in zip(handles, labels, strict=True)}
    figure.legend(
        first.values(), first.keys(), loc="lower center", ncols=3, frameon=False, fontsize=9
    )
    title = (
        f"{result['model']} and the digits' model; equal multiply-adds and delay; means over "
        "several schedules; 95 % intervals over pictures"
    )
    style.save(figure, png, title, bottom=0.06)


def _mark(axis: Any, ratio: dict[str, float], y: float, i: int, label: str) -> None:
    ends = [[max(0.0, ratio["mean"] - ratio["low"])], [max(0.0, ratio["high"] - ratio["mean"])]]
    axis.errorbar(
        [ratio["mean"]], [y], xerr=ends, color=COLOURS[i], marker=MARKERS[i], markersize=6,
        linestyle="none", elinewidth=1.2, capsize=2, label=label,
    )  # fmt: skip
