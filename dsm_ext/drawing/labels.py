"""Placing the labels of a chart's points so that none covers another label or a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DISTANCES = (9, 15, 22, 32, 44)  # points of print between a point and its label
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
ALIGN = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}
LONGEST = 18  # characters
STRIDE = 5  # pixels between two boxes along a line
MARKER = 6  # pixels from a point's middle to its edge


def place_labels(axis: Any, labels: Sequence[tuple[str, float, float]]) -> None:
    """Write a label beside each point, where there is room.

    Args:
        axis: of a figure that was drawn, so that its limits are final.
        labels: (text, x, y) of all points; points with an empty text have no label but are kept
            free.
    """
    renderer = axis.figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer).expanded(1.02, 1.02)
    taken = []
    for _, x, y in labels:
        middle = axis.transData.transform((x, y))
        taken.append((*(middle - MARKER), *(middle + MARKER)))
    for line in axis.get_lines():
        if line.get_transform() != axis.transData:  # a line across the whole chart
            continue
        taken += _boxes_along(axis.transData.transform(line.get_xydata()))
    for text, x, y in sorted(labels, key=lambda label: (label[1], label[2])):
        if not text:
            continue
        best: tuple[float, Any] | None = None
        for distance in DISTANCES:
            for across, up in SIDES:
                note = _note(axis, text, (x, y), across * distance, up * distance, distance)
                box = note.get_window_extent(renderer)
                box = (box.x0, box.y0, box.x1, box.y1)
                covered = sum(_overlap(box, other) for other in taken) + _outside(box, inside)
                if best is None or covered < best[0]:
                    if best is not None:
                        best[1].remove()
                    best = (covered, note)
                else:
                    note.remove()
                if covered == 0:
                    break
            if best is not None and best[0] == 0:
                break
        assert best is not None
        box = best[1].get_window_extent(renderer)
        taken.append((box.x0, box.y0, box.x1, box.y1))


def _note(
    axis: Any, text: str, place: tuple[float, float], across: float, up: float, distance: float
) -> Any:
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    far = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6} if distance > 15 else None
    side_x, side_y = (0 if value == 0 else int(value / abs(value)) for value in (across, up))
    return axis.annotate(
        text, place, xytext=(across, up), textcoords="offset points", fontsize=7.5,
        color="#333333", ha=ALIGN[side_x][0], va=ALIGN[side_y][1], arrowprops=far, zorder=5,
    )  # fmt: skip


def _boxes_along(corners: Any) -> list[tuple[float, float, float, float]]:
    """Small boxes along a line, so that labels keep off it."""
    boxes = []
    for (x0, y0), (x1, y1) in zip(corners[:-1], corners[1:], strict=True):
        count = int(max(abs(x1 - x0), abs(y1 - y0)) // STRIDE) + 1
        for i in range(1, count):
            x, y = x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count
            boxes.append((x - 1, y - 1, x + 1, y + 1))
    return boxes


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _outside(box: Sequence[float], inside: Any) -> float:
    """The area of a label outside of the axes."""
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return whole - _overlap(box, (inside.x0, inside.y0, inside.x1, inside.y1))
