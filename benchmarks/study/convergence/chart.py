"""The charts: what a change of each block does, and how alike patches are and attention is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dsm_ext.analysis import chart
from dsm_ext.analysis.result import Figures

ROWS = {"photographs": "{model}", "digits": "the demo's model, digits"}


def draw(result: dict[str, Any], png: Path) -> None:
    """Draw PART.png, and PART-similarity.png beside it."""
    _sheet(result, png, [chart.draw_errors, chart.draw_amplification, chart.draw_delays])
    _sheet(
        result,
        png.with_name(f"{png.stem}-similarity.png"),
        [chart.draw_similarity, chart.draw_distance, chart.draw_entropy],
    )


def _sheet(
    result: dict[str, Any], png: Path, panels: Sequence[Callable[[Any, Figures], None]]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [name for name in ROWS if name in result]
    figure = pyplot.figure(figsize=(11.5, 3.9 * len(rows)), layout="constrained")
    for name, part in zip(rows, figure.subfigures(len(rows), 1, squeeze=False).flat, strict=True):
        figures = Figures.from_dict(result[name])
        for axis, panel in zip(part.subplots(1, len(panels)), panels, strict=True):
            panel(axis, figures)
            chart.style(axis)
        subject = ROWS[name].format(model=result.get("model", "the model"))
        gh, gw = figures.grid
        part.suptitle(
            f"{subject}: {figures.pictures} pictures, {gh} x {gw} patches; bars: 95 % intervals",
            fontsize=9, color="#444444",
        )  # fmt: skip
    figure.savefig(png, dpi=130)
    pyplot.close(figure)
