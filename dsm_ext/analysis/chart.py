"""The chart of an analysis: its figures block by block, and the errors of delays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dsm_ext.analysis.result import Figures
from dsm_ext.drawing.chart import COLOURS
from dsm_ext.intervals import Interval

TINY = 1e-7  # smaller errors are rounding, and a logarithmic axis has no place for 0
BLUE, ORANGE, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[6]


def draw(analysis: Figures, path: Path, name: str = "") -> None:
    """Draw an analysis into a file.

    Args:
        name: of the model, for the title.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: list[Callable[[Any, Figures], None]] = [
        draw_similarity, draw_distance, draw_entropy, draw_errors, draw_amplification, draw_delays
    ]  # fmt: skip
    figure, axes = pyplot.subplots(2, 3, figsize=(11.5, 7.2))
    for axis, panel in zip(axes.flat, panels, strict=True):
        panel(axis, analysis)
        style(axis)
    gh, gw = analysis.grid
    title = f"{analysis.pictures} pictures, {gh} x {gw} patches; bars: 95 % intervals"
    figure.suptitle(f"{name}, {title}" if name else title, fontsize=9, color="#444444")
    figure.tight_layout(rect=(0, 0, 1, 0.98), h_pad=1.6, w_pad=1.2)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def style(axis: Any) -> None:
    """A pale grid, no frame at the top and the right, small text."""
    axis.grid(True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_size(8.5)
    axis.yaxis.label.set_size(8.5)
    axis.title.set_size(9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def draw_similarity(axis: Any, analysis: Figures) -> None:
    """Lines of the mean cosines, with a band from the 10th to the 90th percentile for the keys."""
    blocks = _numbers(analysis)
    for kind, colour in (("partner", BLUE), ("neighbours", GREEN), ("strangers", ORANGE)):
        keys = [getattr(block.keys, kind) for block in analysis.blocks]
        tokens = [getattr(block.tokens, kind).mean for block in analysis.blocks]
        axis.plot(blocks, [k.mean for k in keys], "-o", color=colour, markersize=3.5, label=kind)
        axis.plot(blocks, tokens, "--", color=colour, linewidth=1.1)
        axis.fill_between(
            blocks, [k.low for k in keys], [k.high for k in keys], color=colour, alpha=0.13, lw=0
        )
    axis.plot([], [], "--", color="#444444", linewidth=1.1, label="by tokens")
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.3 * (high - low), high)
    axis.legend(fontsize=7.5, frameon=False, ncols=2, loc="lower center")
    axis.set_title("how alike patches are, by keys")
    _label(axis, "cosine", blocks)


def draw_distance(axis: Any, analysis: Figures) -> None:
    """A dot for each head, and a line through the means."""
    _heads(axis, analysis, [block.distance for block in analysis.blocks])
    axis.set_title("how far each head looks; line: mean")
    _label(axis, "distance in patches", _numbers(analysis))


def draw_entropy(axis: Any, analysis: Figures) -> None:
    """A dot for each head, a line through the means, and the entropy of equal attention."""
    _heads(axis, analysis, [block.entropy for block in analysis.blocks])
    most = math.log(analysis.grid[0] * analysis.grid[1])
    axis.axhline(most, color="#333333", linestyle=":", linewidth=1.1)
    axis.annotate(
        "at all patches alike", (0.01, most), xycoords=("axes fraction", "data"), xytext=(0, 2),
        textcoords="offset points", va="bottom", fontsize=7.5, color="#333333",
    )  # fmt: skip
    axis.set_ylim(top=1.12 * most)
    axis.set_title("how evenly each head looks; line: mean")
    _label(axis, "entropy in nats", _numbers(analysis))


def draw_errors(axis: Any, analysis: Figures) -> None:
    """The errors of a step alone and of noise, on a logarithmic axis."""
    blocks = _numbers(analysis)
    errors = {
        f"one step of {analysis.r} tokens": ([b.step.error for b in analysis.blocks], BLUE, "o"),
        "noise of the same size": ([b.noise.error for b in analysis.blocks], ORANGE, "s"),
    }
    for label, (values, colour, marker) in errors.items():
        shown = [(n, v) for n, v in zip(blocks, values, strict=True) if v.mean > TINY]
        _bars(axis, [n for n, _ in shown], [v for _, v in shown], colour, marker, label)
    if any(v.mean > TINY for values, _, _ in errors.values() for v in values):
        axis.set_yscale("log")
    axis.legend(fontsize=7.5, frameon=False)
    axis.set_title("a change in one block alone")
    _label(axis, f"{analysis.measure} to dense; lower is better", blocks)


def draw_amplification(axis: Any, analysis: Figures) -> None:
    """How much a change of one block grows until the end, and its size in the block."""
    for kind, colour, marker in (("step", BLUE, "o"), ("noise", ORANGE, "s")):
        found = [getattr(block, kind).amplification for block in analysis.blocks]
        shown = [(n, v) for n, v in zip(_numbers(analysis), found, strict=True) if v is not None]
        label = "of a step" if kind == "step" else "of noise"
        _bars(axis, [n for n, _ in shown], [v for _, v in shown], colour, marker, label)
    axis.axhline(1, color="#333333", linestyle=":", linewidth=1.1)
    sizes = [block.change.mean for block in analysis.blocks]
    axis.plot(
        _numbers(analysis), [10 * size for size in sizes], "--", color=GREY, linewidth=1.1,
        label="size of the change, x 10",
    )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7.5, frameon=False)
    axis.set_title("amplification until the end")
    _label(axis, "relative change, end over block", _numbers(analysis))


def draw_delays(axis: Any, analysis: Figures) -> None:
    """The error of each delay; a ring marks the suggestion."""
    skips = [delay.skip for delay in analysis.delays]
    _bars(axis, skips, [delay.error for delay in analysis.delays], BLUE, "o", "")
    for delay in analysis.delays:
        if delay.skip == analysis.skip:
            axis.plot(
                [delay.skip], [delay.error.mean], "o", markersize=13, markerfacecolor="none",
                markeredgecolor="#222222", markeredgewidth=1.3, zorder=4, clip_on=False,
            )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.margins(x=0.12)
    axis.set_title(f"delays at {analysis.speedup:g} times fewer multiply-adds")
    axis.set_xticks(skips)
    axis.set_xlabel("blocks that merge nothing; ring: suggested")
    axis.set_ylabel(f"{analysis.measure} to dense; lower is better")


def _numbers(analysis: Figures) -> list[int]:
    return [block.index for block in analysis.blocks]


def _label(axis: Any, text: str, blocks: Sequence[int]) -> None:
    every = math.ceil(len(blocks) / 12)
    axis.set_xticks(blocks[::every])
    axis.set_xlabel("block")
    axis.set_ylabel(text)


def _heads(axis: Any, analysis: Figures, values: Sequence[Sequence[float]]) -> None:
    blocks = _numbers(analysis)
    for number, heads in zip(blocks, values, strict=True):
        axis.plot([number] * len(heads), heads, "o", color=BLUE, markersize=4, alpha=0.55, mew=0)
    axis.plot(blocks, [sum(heads) / len(heads) for heads in values], color=GREY, linewidth=1.1)
    axis.set_ylim(bottom=0)


def _bars(
    axis: Any,
    places: Sequence[int],
    values: Sequence[Interval],
    colour: str,
    marker: str,
    label: str,
) -> None:
    means = [value.mean for value in values]
    below = [max(value.mean - value.low, 0) for value in values]
    above = [max(value.high - value.mean, 0) for value in values]
    axis.errorbar(
        places, means, yerr=[below, above], fmt=f"-{marker}", color=colour, markersize=5,
        linewidth=1.1, elinewidth=1.0, capsize=2, label=label,
    )  # fmt: skip
