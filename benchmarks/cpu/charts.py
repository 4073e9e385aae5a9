"""Draws the charts of the CPU's results, from their JSON files.

    python -m benchmarks.cpu.charts [--results DIR]

cpu.png, from cpu.json: cost by batch, by image size and by r. precision.png, from precision.json:
speed against agreement.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.cpu import pareto
from benchmarks.cpu.result import Group, Row
from benchmarks.cpu.tables import short

# Lines are solid with DSM and dashed without. A peer has one colour for both.
STYLES: dict[tuple[str, bool], tuple[str, str, str]] = {
    ("dsm_ext", True): ("DSM, dsm_ext", "#c1272d", "-"),
    ("dsm_ext", False): ("dense, dsm_ext", "#c1272d", "--"),
    ("reference openvino", True): ("DSM, reference in OpenVINO", "#0072b2", "-"),
    ("openvino", False): ("dense, OpenVINO", "#0072b2", "--"),
    ("timm compiled", False): ("dense, timm compiled", "#009e73", "--"),
    ("timm eager", False): ("dense, timm eager", "#8a8a8a", "--"),
}
Point = tuple[float, float, float, float]  # x; milliseconds an image: median, low, high


def lines(
    groups: list[Group], place: Callable[[Group, Row], float | None]
) -> dict[tuple[str, bool], list[Point]]:
    """The sorted points of each line. A line is named by its peer and by whether it merges.

    Args:
        place: gives a row's x, or None if the row has no place on this axis.
    """
    found: dict[tuple[str, bool], list[Point]] = {}
    for group in groups:
        for row in group["rows"]:
            if "rate" not in row or "schedule" not in row:
                continue
            x = place(group, row)
            if x is None:
                continue
            rate = row["rate"]
            cost = [1e3 / rate[name] for name in ("median", "q3", "q1")]
            key = (row["peer"], row["schedule"] != "dense")
            found.setdefault(key, []).append((x, cost[0], cost[1], cost[2]))
    return {key: sorted(points) for key, points in found.items()}


def count(schedule: str) -> float | None:
    """The r of a schedule such as "dsm:r=8"; None for a dense schedule."""
    match = re.search(r"\br=(\d+)", schedule)
    return int(match[1]) if match else None


def draw(result: dict[str, Any], png: Path) -> None:
    """Draws one panel for each sweep in the result.

    Raises:
        ValueError: the result has no sweep.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: list[tuple[str, str, Callable[[Group, Row], float | None]]] = [
        ("batch", "images in a batch", lambda group, row: group["batch"]),
        ("image", "image side, pixels", lambda group, row: group["img_size"]),
        ("r", "r, tokens merged in a block", lambda group, row: count(row["schedule"])),
    ]
    panels = [panel for panel in panels if result.get(panel[0], {}).get("groups")]
    if not panels:
        raise ValueError("no sweep in the result: run benchmarks.cpu.models --only sweeps")
    width = 4.2 * len(panels)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(width, 4.2), squeeze=False)
    for axis, (section, label, place) in zip(axes[0], panels, strict=True):
        groups = result[section]["groups"]
        _panel(axis, lines(groups, place))
        if section == "r":
            _levels(axis, groups)
        else:
            if section == "batch":
                axis.set_xscale("log", base=2)
            places = [place(group, {}) or 0 for group in groups]
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.set_xticks([], minor=True)
        axis.set_ylim(bottom=0)
        fixed = {
            "batch": f"{groups[0]['img_size']} pixels",
            "image": f"batch {groups[0]['batch']}",
            "r": f"{groups[0]['img_size']} pixels, batch {groups[0]['batch']}",
        }
        axis.set_title(f"{short(groups[0]['model'])}, {fixed[section]}", fontsize=10)
        axis.set_xlabel(label)
    axes[0][0].set_ylabel("milliseconds an image")
    _legend(figure, axes[0])
    machine = result[panels[0][0]]["machine"]
    figure.suptitle(
        f"float32, {machine['processor']}, {machine['threads']} threads; lower is better",
        fontsize=9,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=130)
    pyplot.close(figure)


def _panel(axis: Any, found: dict[tuple[str, bool], list[Point]]) -> None:
    for key, (label, colour, dash) in STYLES.items():
        if key not in found:
            continue
        x, median, low, high = zip(*found[key], strict=True)
        axis.plot(x, median, dash, color=colour, label=label, marker="o", markersize=3.5)
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.grid(True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _levels(axis: Any, groups: list[Group]) -> None:
    """Draws dense peers as horizontal lines: in the sweep of r their cost is constant."""
    for key, points in lines(groups, lambda group, row: row["schedule"] == "dense" or None).items():
        label, colour, dash = STYLES.get(key, ("", "", ""))
        if label:
            axis.axhline(points[0][1], color=colour, linestyle=dash, linewidth=1.3, label=label)
    axis.xaxis.get_major_locator().set_params(integer=True)


def _legend(figure: Any, axes: Any) -> None:
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [label for label, _, _ in STYLES.values() if label in handles]
    figure.legend(
        [handles[label] for label in order], order, ncols=3, loc="lower center", frameon=False,
        fontsize=9,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR", default=RESULTS)
    args = parser.parse_args()
    for name, chart in (("cpu", draw), ("precision", pareto.draw)):
        file = args.results / f"{name}.json"
        if file.is_file():
            chart(json.loads(file.read_text()), file.with_suffix(".png"))


if __name__ == "__main__":
    main()
