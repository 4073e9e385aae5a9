"""The look of the study's charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import versions
from dsm_ext.drawing.chart import COLOURS

GREY = "#555555"


def figure(columns: int, rows: int = 1, width: float = 5.0, height: float = 4.0) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns], for a file and not for a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def plain(axis: Any, title: str, x: str, y: str) -> None:
    """A pale grid, no frame at the top and on the right, and the names of both axes."""
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def with_intervals(
    axis: Any, x: Sequence[float], intervals: Sequence[dict[str, float]], label: str, number: int
) -> None:
    """A line through means, and a pale band between the ends of their intervals.

    Args:
        number: chooses the colour.
    """
    mean, low, high = ([one[name] for one in intervals] for name in ("mean", "low", "high"))
    colour = COLOURS[number % len(COLOURS)]
    axis.plot(x, mean, "o-", color=colour, label=label, markersize=3.5, linewidth=1.4)
    axis.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def numbers(axis: Any, name: str = "y") -> None:
    """Write plain numbers on a logarithmic axis, whose short range may hold no power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ticks = getattr(axis, f"{name}axis")
    low, high = getattr(axis, f"get_{name}lim")()
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    ticks.set_minor_formatter(NullFormatter())


def about(result: dict[str, Any]) -> str:
    """The model, its pictures and the versions, for a title."""
    subject = f"{result['model']}, {result['pictures']} pictures; " if "model" in result else ""
    return f"{subject}bands: 95 % intervals; {versions(result, 'torch', 'timm')}"


def save(fig: Any, png: Path, title: str, bottom: float = 0.0) -> None:
    """Write the figure. ``bottom`` is the share of the height that a legend of its own takes."""
    from matplotlib import pyplot

    fig.suptitle(title, fontsize=9, color=GREY)
    fig.tight_layout(rect=(0, bottom, 1, 1))
    png.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(png, dpi=110)
    pyplot.close(fig)
