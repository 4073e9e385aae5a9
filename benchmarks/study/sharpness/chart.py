"""Draws the part's chart: accuracy against r, and sharpness with and without merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.study.common import style
from benchmarks.study.sharpness.compare import MEASURES
from dsm_ext.drawing.chart import COLOURS, MARKERS

METHODS = ("ToMe", "DSM")
PANELS = {
    "eigenvalue": "eigenvalue; higher is sharper",
    "ball": "rise of the loss; higher is sharper",
}


def draw(result: dict[str, Any], png: Path) -> None:
    """Draw the chart of a result of ``measure``."""
    fig, axes = style.figure(2, 2)
    for axis, method in zip(axes[0], METHODS, strict=True):
        _accuracy(axis, result, method)
    low, high = (
        limit(axis.get_ylim()[i] for axis in axes[0]) for i, limit in enumerate((min, max))
    )
    for axis in axes[0]:
        axis.set_ylim(low, high)
    for axis, (measure, label) in zip(axes[1], PANELS.items(), strict=True):
        _sharpness(axis, result, measure, label)
    handles, labels = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, labels, ncols=3, loc="lower center", frameon=False, fontsize=9)
    seeds = result["settings"]["seeds"]
    title = (
        f"digits' ViT, {result['test_digits']} held-out digits; {seeds} seeds: bands from the "
        "lowest to the highest; lower panels: a line for each seed"
    )
    style.save(fig, png, title, bottom=0.05)


def _accuracy(axis: Any, result: dict[str, Any], method: str) -> None:
    counts = [0, *result["settings"]["counts"]]
    for number, (training, of) in enumerate(result["answers"].items()):
        names = ["dense" if r == 0 else f"{method} r={r}" for r in counts]
        seeds = [of[name]["accuracy"] for name in names]
        intervals = [
            {"mean": sum(own) / len(own), "low": min(own), "high": max(own)} for own in seeds
        ]
        style.with_intervals(axis, counts, intervals, training, number)
    style.plain(
        axis, method, "r, tokens removed in each merging block", "accuracy, %; higher is better"
    )


def _sharpness(axis: Any, result: dict[str, Any], measure: str, label: str) -> None:
    methods: list[str] = []
    for number, of in enumerate(result["sharpness"].values()):
        methods = list(of[measure])
        for seed in range(result["settings"]["seeds"]):
            x = [i + 0.2 * (number - 1) + 0.04 * (seed - 1) for i in range(len(methods))]
            y = [of[measure][method]["values"][seed] for method in methods]
            axis.plot(
                x, y, marker=MARKERS[number], color=COLOURS[number], markersize=5, linewidth=0.6,
                alpha=0.9,
            )  # fmt: skip
    axis.set_xticks(range(len(methods)), methods, fontsize=8.5)
    style.plain(axis, MEASURES[measure], "method, and how many times fewer multiply-adds", label)
    axis.set_yscale("log")
    style.numbers(axis)
