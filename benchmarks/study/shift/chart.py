"""Draws how merged answers leave the dense ones with the severity of corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.study.common import style
from benchmarks.study.shift import corruptions
from dsm_ext.drawing.chart import COLOURS, MARKERS

LABELS = {
    "int8": "int8, dense (control)",
    "noise": "noise as large as ToMe's error (control)",
}
STYLES = {
    name: (COLOURS[i], MARKERS[i])
    for i, name in enumerate(("ToMe", "DFE", "DSM", "guided", "int8", "noise"))
}
DASHED = ("int8", "noise")


def draw(result: dict[str, Any], png: Path) -> None:
    """Draw the means by severity, and beside the file all corruptions: PNG_corruptions.png."""
    figure, axes = style.figure(3, 1, 4, 4.6)
    same, kl, gain = axes[0]
    rows = result["severities"]
    levels = [int(level) for level in rows]
    methods = [name for name in STYLES if name in rows["0"]]
    places = {name: 0.09 * (i - (len(methods) - 1) / 2) for i, name in enumerate(methods)}
    for name in methods:
        x = [level + places[name] for level in levels]
        _line(same, x, [rows[str(level)][name]["same"] for level in levels], name)
        _line(kl, x, [rows[str(level)][name]["kl"] for level in levels], name)
    for name in result["gain"]["0"]:
        x = [level + places[name] for level in levels]
        _line(gain, x, [result["gain"][str(level)][name]["ratio"] for level in levels], name)
    gain.axhline(1, color="#444444", linewidth=0.9, zorder=2)
    kl.set_yscale("log")
    style.numbers(kl)
    for axis, y in (
        (same, "same answers as dense, %; higher is better"),
        (kl, "KL to dense, nats; lower is better"),
        (gain, "KL of ToMe / KL of the method; higher is better"),
    ):
        style.plain(axis, "", "severity of the corruption", y)
        axis.set_xticks(levels, ["clean", *(str(level) for level in levels[1:])])
    handles, labels = same.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=6, frameon=False, fontsize=9)
    style.save(figure, png, f"{_title(result)}; 95 % intervals over pictures", bottom=0.07)
    _draw_corruptions(result, png.with_name(f"{png.stem}_corruptions.png"))


def _line(axis: Any, x: list[float], intervals: list[dict[str, float]], name: str) -> None:
    colour, marker = STYLES[name]
    means = [of["mean"] for of in intervals]
    ends = [
        [max(0.0, of["mean"] - of["low"]) for of in intervals],
        [max(0.0, of["high"] - of["mean"]) for of in intervals],
    ]
    axis.errorbar(
        x, means, yerr=ends, color=colour, marker=marker, markersize=5, linewidth=1.2,
        linestyle="--" if name in DASHED else "-", elinewidth=1, capsize=2,
        label=LABELS.get(name, name),
    )  # fmt: skip


def _draw_corruptions(result: dict[str, Any], png: Path) -> None:
    """Two tables in colour at the highest severity: same answers, and KL."""
    worst = str(corruptions.SEVERITIES[-1])
    found = result["corruptions"]
    methods = [name for name in STYLES if name in result["severities"]["0"]]
    figure, ((left, right),) = style.figure(2, 1, 5.5, 6.6)
    names = ["clean", *corruptions.NAMES]
    cells = [result["clean"], *(found[name][worst] for name in corruptions.NAMES)]
    for axis, value, form, colours, title in (
        (left, "same", "{:.0f}", "viridis", "same answers as dense, %; higher is better"),
        (right, "kl", "{:.3f}", "viridis_r", "KL to dense, nats; lower is better"),
    ):
        table = [[cell[name][value] for name in methods] for cell in cells]
        _heat(axis, table, form, colours)
        axis.set_xticks(range(len(methods)), methods, fontsize=9)
        axis.xaxis.tick_top()
        axis.set_title(title, fontsize=10, pad=8)
        axis.tick_params(length=0)
    left.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9)
    right.set_yticks([])
    edge = 0.5
    for kind in corruptions.KINDS.values():  # a white line before each kind of corruption
        for axis in (left, right):
            axis.axhline(edge, color="white", linewidth=3)
        edge += len(kind)
    style.save(figure, png, f"severity {worst}; {_title(result)}")


def _heat(axis: Any, table: list[list[float]], form: str, colours: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    values = [value for row in table for value in row]
    low, high = max(min(values), 1e-4), max(max(values), 2e-4)
    norm = LogNorm(low, high) if "{:.3f}" in form else Normalize(min(values), max(values))
    picture = axis.imshow(
        [[max(value, 1e-4) for value in row] for row in table],
        aspect="auto", cmap=colours, norm=norm,
    )  # fmt: skip
    for y, row in enumerate(table):
        for x, value in enumerate(row):
            red, green, blue, _ = picture.cmap(norm(max(value, 1e-4)))
            bright = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            colour = "black" if bright else "white"
            axis.text(x, y, form.format(value), ha="center", va="center", fontsize=8, color=colour)
    for side in axis.spines.values():
        side.set_visible(False)


def _title(result: dict[str, Any]) -> str:
    return (
        f"{result['model']}, {result['corrupted']} photographs, ImageNet-C's 15 corruptions; "
        f"{result['speedup']} times fewer multiply-adds"
    )
