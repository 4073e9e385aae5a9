"""The chart of speed against agreement: benchmarks/results/precision.png, from precision.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cpu.precision_tables import HEADLINE, kind
from benchmarks.cpu.result import Group, Row, find, merged_schedule, ratio
from benchmarks.cpu.tables import short

# A library has one colour, a precision one marker. Filled markers merge, hollow ones do not.
COLOURS = {
    "dsm_ext": ("dsm_ext", "#c1272d"),
    "openvino": ("OpenVINO", "#0072b2"),
    "reference openvino": ("OpenVINO", "#0072b2"),
    "onnxruntime": ("ONNX Runtime", "#e69f00"),
    "timm eager": ("timm eager", "#8a8a8a"),
    "timm compiled": ("timm compiled", "#009e73"),
    "torchao": ("torchao", "#8e44ad"),
}
MARKERS = {"float32": "o", "bfloat16": "s", "int8": "^"}
ALL = 100.0


def points(group: Group, judged: Group) -> list[tuple[Row, float, float]]:
    """Each row of a group with its speed over timm eager float32 and its same answers in per cent.

    Args:
        judged: the group of the same model whose rows have answers.
    """
    timm = find(group, "timm eager")
    found = []
    for row in group["rows"]:
        place = row["peer"], row["schedule"], row["precision"]
        own, of = find(group, *place), find(judged, *place)
        speed = ratio(own, timm)
        if own is not None and of is not None and speed is not None and "answers" in of:
            found.append((own, speed, of["answers"]["agreement"]))
    return found


def draw(result: dict[str, Any], png: Path) -> None:
    """Draws one panel for each batch size of the model whose answers were measured.

    Raises:
        ValueError: the result has no answers.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [g for g in result.get("speed", {}).get("groups", []) if g["model"] == HEADLINE[0]]
    judged = next((g for g in groups if any("answers" in row for row in g["rows"])), None)
    if judged is None:
        raise ValueError("no answers in the result: run benchmarks.cpu.precision with pictures")
    figure, axes = pyplot.subplots(
        1, len(groups), figsize=(4.9 * len(groups), 4.6), sharey=True, squeeze=False
    )
    for axis, group in zip(axes[0], groups, strict=True):
        found = points(group, judged)
        for row, speed, agreement in found:
            _mark(axis, row, speed, agreement)
        _front(axis, found)
        _labels(axis, found)
        axis.set_title(f"{short(group['model'])}, batch {group['batch']}", fontsize=10)
        axis.set_xlabel("images a second, to timm eager in float32")
        axis.grid(True, color="#e4e4e4", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.set_xlim(left=0, right=axis.get_xlim()[1] * 1.17)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0][0].set_ylabel("same answers as dense float32, %")
    axes[0][0].set_ylim(axes[0][0].get_ylim()[0] - 0.7, ALL + 0.5)
    _legend(figure, [row for row, *_ in points(judged, judged)])
    machine = result["speed"]["machine"]
    pictures = next(row["answers"]["pictures"] for row in judged["rows"] if "answers" in row)
    figure.suptitle(
        f"{pictures} pictures; filled: merged, DSM is {merged_schedule(judged)}; hollow: dense; "
        f"{machine['processor']}, {machine['threads']} threads; right and up is better",
        fontsize=8.5,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=130)
    pyplot.close(figure)


def _precision(row: Row) -> str:
    """The marker's precision: "auto" has that of the setting which OpenVINO chose."""
    if row["precision"] == "auto":
        return "bfloat16" if row.get("setting", "").startswith("bf16") else "float32"
    return "int8" if row["precision"].startswith("int8") else row["precision"]


def _mark(axis: Any, row: Row, speed: float, agreement: float) -> None:
    colour = COLOURS[row["peer"]][1]
    filled = colour if row["schedule"] != "dense" else "white"
    size = 8.5 if row["peer"] == "dsm_ext" else 6.5
    axis.plot(
        [speed], [agreement], MARKERS[_precision(row)], color=colour, markerfacecolor=filled,
        markersize=size, markeredgewidth=1.5, linestyle="none", zorder=3, clip_on=False,
    )  # fmt: skip


def _front(axis: Any, found: list[tuple[Row, float, float]]) -> None:
    """A line through the points that no other point beats in both directions."""
    best = [
        (speed, agreement)
        for _, speed, agreement in found
        if not any(s >= speed and a >= agreement and (s, a) != (speed, agreement)
                   for _, s, a in found)
    ]  # fmt: skip
    best.sort()
    axis.plot(*zip(*best, strict=True), color="#bbbbbb", linewidth=1.2, zorder=1)


# Where a label stands beside its point, in points, and which side of it is there. Our bfloat16 and
# int8 points are often neighbours, so their labels stand on different sides.
PLACES = {
    "float32": ((0, -14), "center"),
    "bfloat16": ((-8, -9), "right"),
    "int8": ((8, -3), "left"),
}


def _labels(axis: Any, found: list[tuple[Row, float, float]]) -> None:
    """Names our points."""
    for row, speed, agreement in found:
        if row["peer"] != "dsm_ext":
            continue
        merging = "" if row["schedule"] == "dense" else f"{kind(row).strip('`')} "
        offset, side = PLACES[row["precision"]]
        axis.annotate(
            f"{merging}{row['precision']}", (speed, agreement), xytext=offset,
            textcoords="offset points", ha=side, fontsize=7.5, color="#c1272d",
        )  # fmt: skip


def _legend(figure: Any, rows: list[Row]) -> None:
    from matplotlib.lines import Line2D

    def handle(marker: str, colour: str, label: str) -> Any:
        return Line2D([], [], marker=marker, color=colour, label=label, linestyle="none")

    peers = dict(COLOURS[row["peer"]] for row in rows)
    handles = [handle("o", colour, name) for name, colour in peers.items()]
    used = {_precision(row) for row in rows}
    handles += [handle(MARKERS[name], "#333333", name) for name in MARKERS if name in used]
    figure.legend(handles=handles, ncols=len(handles), loc="lower center", frameon=False,
                  fontsize=8.5, columnspacing=1.2, handletextpad=0.3)  # fmt: skip
