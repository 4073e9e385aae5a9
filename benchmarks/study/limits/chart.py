"""The chart of limits: answers by method, what a failure goes with, and what tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.study.common import style
from benchmarks.study.limits.sweep import METHODS
from benchmarks.study.limits.tables import CAUSES, _explained, _name
from dsm_ext.drawing.chart import COLOURS, MARKERS

TICKS = (1, 1.5, 2, 3, 4, 5, 7)


def draw(result: dict[str, Any], png: Path) -> None:
    """Answers of both networks by speedup; then, of the first, answers by cause and AUCs."""
    fig, axes = style.figure(2, 2, 5.6, 4.3)
    networks = result["networks"]
    for axis, network in zip(axes[0], (networks[0], networks[-1]), strict=True):
        _answers(axis, network)
    explained = _explained(result)
    if explained:
        _bins(axes[1][0], *explained[0])
    told = [one for one in explained if one[2]["predictors"]]
    if told:
        _predictors(axes[1][1], told)
    style.save(fig, png, style.about(result))


def _answers(axis: Any, network: dict[str, Any]) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    for number, name in enumerate(METHODS):
        own = [row for row in network["sweep"] if row["method"] == name]
        x = [row["speedup"] for row in own]
        style.with_intervals(axis, x, [row["same"] for row in own], name, number)
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, 103)
    axis.legend(frameon=False, fontsize=8.5, loc="lower left")
    style.plain(
        axis, f"{_name(network)}, {network['pictures']} pictures", "times fewer multiply-adds",
        "same answers as dense, %; higher is better",
    )  # fmt: skip


def _bins(axis: Any, network: dict[str, Any], method: str, why: dict[str, Any]) -> None:
    for number, (cause, words) in enumerate(CAUSES.items()):
        bins = why["bins"][cause]
        style.with_intervals(axis, range(1, len(bins) + 1), bins, words, number)
    axis.axhline(why["kept"]["mean"], color="#333333", linewidth=1, linestyle=":")
    axis.set_xticks(range(1, 6), ["lowest\nfifth", "", "middle", "", "highest\nfifth"])
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    style.plain(
        axis, f"{_name(network)}, {method} up to {why['target']:g}x: which pictures fail",
        "pictures in order of each value", "pictures that keep their answer, %",
    )  # fmt: skip


def _predictors(axis: Any, told: list[Any]) -> None:
    names = {**CAUSES, "all": "all four"}
    for number, (network, method, why) in enumerate(told):
        for row, cause in enumerate(names):
            own = why["predictors"][cause]
            y = row + 0.16 * (number - (len(told) - 1) / 2)
            axis.plot([own["low"], own["high"]], [y, y], color=COLOURS[number], linewidth=1.4)
            axis.plot(
                [own["mean"]], [y], MARKERS[number], color=COLOURS[number], markersize=6,
                label=f"{_name(network)}, {method} by {why['target']:g}x" if row == 0 else None,
            )  # fmt: skip
    axis.axvline(0.5, color="#333333", linewidth=1)
    axis.set_yticks(range(len(names)), [words.replace(" merged", "\nmerged").replace(" of", "\nof")
                                        for words in names.values()])  # fmt: skip
    axis.set_ylim(len(names) + 0.1, -0.6)
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    style.plain(
        axis, "What tells the pictures that fail",
        "area under the ROC curve; 0.5 is guessing, higher tells more", "",
    )  # fmt: skip
