"""A chart of schedules: how far their answers are from the dense model's, against their time.

It needs matplotlib, which the package does not require: ``pip install "dsm_ext[charts]"``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm_ext.drawing.labels import place_labels

# Okabe and Ito's colours, which people with colour blindness tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a8a8a", "#7a5195")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
FILLS = ("full", "none", "left", "top")  # of the markers, one for each variant
DASHES = ("-", "--", ":", "-.")
FORMATS = (".png", ".pdf", ".svg")
TINY = 1e-7  # smaller errors are rounding, and a logarithmic axis has no place for 0


@dataclass(frozen=True)
class Point:
    """One schedule in one precision."""

    series: str
    """Points of one series have one colour."""
    label: str
    """A text beside the point; may be empty."""
    milliseconds: float
    error: float
    agreement: float | None
    """Same answers as the dense model's, in per cent. None without a head."""
    chosen: bool = False
    """Whether a ring marks the point."""
    variant: str = ""
    """Within a series, such as a precision: a line joins the points of one variant."""


def check(path: Path, option: str) -> None:
    """Check that a chart can be drawn into a file of this name, before the work starts.

    Raises:
        ValueError: the name has another ending.
        ImportError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(f'{option} needs matplotlib: pip install "dsm_ext[charts]"')
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"expected {option} to end in {', '.join(FORMATS)}, got {path}")


def draw(points: Sequence[Point], path: Path, title: str, time: str, measure: str) -> None:
    """Draw the error and, with a head, the same answers of all points against their time.

    Args:
        time: what the time is, for the axis.
        measure: what the error is, for the axis: "KL" or "1 - cosine".
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    answers = all(point.agreement is not None for point in points)
    panels = 2 if answers else 1
    figure, axes = pyplot.subplots(1, panels, figsize=(5.6 * panels, 5.0), squeeze=False)
    styles = _styles(points)
    errors, *others = axes[0]
    shown = [point for point in points if point.error > TINY]
    _panel(errors, [(p, p.error) for p in shown], styles)
    if shown:
        errors.set_yscale("log")
        _log_ticks(errors, [p.error for p in shown])
    for point in points:
        if point.error <= TINY:
            _dense_line(errors, point)
    errors.set_ylabel(f"{measure} to dense; lower is better")
    _front(errors, [(p.milliseconds, -p.error) for p in shown])
    for axis in others:
        values = [(p, p.agreement) for p in points if p.agreement is not None]
        _panel(axis, values, styles)
        _front(axis, [(p.milliseconds, value) for p, value in values])
        axis.set_ylabel("same answers as dense, %; higher is better")
    for axis in axes[0]:
        axis.set_xlabel(time)
        axis.margins(x=0.12, y=0.12)
    _legend(figure, styles, _variants(points), panels)
    figure.suptitle(title, fontsize=9, color="#444444")
    figure.tight_layout(rect=(0, 0.1 if panels > 1 else 0.15, 1, 0.98))
    figure.canvas.draw()
    place_labels(errors, [(p.label, p.milliseconds, p.error) for p in shown])
    for axis in others:
        values = [(p, p.agreement) for p in points if p.agreement is not None]
        place_labels(axis, [(p.label, p.milliseconds, value) for p, value in values])
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _styles(points: Iterable[Point]) -> dict[str, tuple[str, str]]:
    """The colour and marker of each series, in the order of the points."""
    names = dict.fromkeys(point.series for point in points)
    rest = [name for name in names if name != "dense"]
    styles = {"dense": ("#333333", "*")} if "dense" in names else {}
    for i, name in enumerate(rest):
        styles[name] = (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
    return styles


def _panel(
    axis: Any, values: Sequence[tuple[Point, float]], styles: dict[str, tuple[str, str]]
) -> None:
    for (name, variant), (fill, dash) in _lines(values).items():
        colour, marker = styles[name]
        own = [(p, value) for p, value in values if (p.series, p.variant) == (name, variant)]
        x, y = zip(*sorted((p.milliseconds, value) for p, value in own), strict=True)
        axis.plot(
            x, y, dash, marker=marker, color=colour, fillstyle=fill, markersize=7, linewidth=1.1,
            zorder=3,
        )  # fmt: skip
    for point, value in values:
        if point.chosen:
            axis.plot(
                [point.milliseconds], [value], "o", markersize=14, markerfacecolor="none",
                markeredgecolor="#222222", markeredgewidth=1.3, zorder=4,
            )  # fmt: skip
    axis.grid(True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _variants(points: Iterable[Point]) -> dict[str, tuple[str, str]]:
    """How the markers of each variant are filled, and the dashes of its lines."""
    names = dict.fromkeys(point.variant for point in points)
    return {name: (FILLS[i % 4], DASHES[i % 4]) for i, name in enumerate(names)}


def _lines(values: Sequence[tuple[Point, float]]) -> dict[tuple[str, str], tuple[str, str]]:
    """The style of each line, by series and variant."""
    variants = _variants(point for point, _ in values)
    return {(p.series, p.variant): variants[p.variant] for p, _ in values}


def _log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Write plain numbers at 1, 2 and 5 of each decade: a short axis may hold no power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = max(values) / min(values) < 30
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if narrow else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _dense_line(axis: Any, point: Point) -> None:
    """Show the time of a point whose error is 0."""
    axis.axvline(point.milliseconds, color="#333333", linestyle=":", linewidth=1.2)
    axis.annotate(
        f"{point.label or point.series}, no error", (point.milliseconds, 0.97),
        xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
        rotation=90, ha="right", va="top", fontsize=7.5, color="#333333",
    )  # fmt: skip


def _front(axis: Any, values: Sequence[tuple[float, float]]) -> None:
    """A broad pale line through the points that no other point beats in both directions.

    Args:
        values: times, and what shall be large.
    """
    best = [
        (x, y)
        for x, y in values
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in values)
    ]
    if best:
        times, goods = zip(*sorted(best), strict=True)
        axis.plot(times, [abs(y) for y in goods], color="#dddddd", linewidth=6, zorder=1)


def _legend(
    figure: Any,
    styles: dict[str, tuple[str, str]],
    variants: dict[str, tuple[str, str]],
    panels: int,
) -> None:
    from matplotlib import lines

    line: Any = lines.Line2D
    handles = [
        line([], [], marker=marker, color=colour, label=name, markersize=7)
        for name, (colour, marker) in styles.items()
    ]
    if len(variants) > 1:
        handles += [
            line([], [], marker="o", fillstyle=fill, linestyle=dash, color="#333333", label=name)
            for name, (fill, dash) in variants.items()
        ]
    handles.append(line([], [], color="#dddddd", linewidth=6, label="not beaten by any"))
    figure.legend(
        handles=handles, ncols=4 * panels, loc="lower center", frameon=False, fontsize=8.5
    )
