"""Tables of results/deit_tiny.json: speed and accuracy of schedules on real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.common import line, machine, rule, versions

Row = dict[str, Any]
# A column's title, and its cell of a row.
Column = tuple[str, Callable[[Row], str]]

SHOWN = ("dense", "guided:1.2", "guided:1.4", "guided:1.7", "guided:2", "tome:r=13", "dsm:r=16")


def _speed(batch: str) -> Callable[[Row], str]:
    return lambda row: f"{row[batch]['dsm_ext']['median']:.0f}"


def _to(batch: str, peer: str) -> Callable[[Row], str]:
    return lambda row: f"{row[batch]['dsm_ext']['median'] / row[batch][peer]['median']:.2f}"


AGREEMENT: Column = ("same answers, %", lambda row: f"{row['agreement']:.1f}")
TOP1: Column = ("top-1, %", lambda row: f"{row['top1']:.1f}")
KL: Column = ("KL to dense", lambda row: f"{row['kl']:.4f}")
WORK: Column = ("G multiply-adds", lambda row: f"{row['gmacs']:.3f}")
SPEED_1: Column = ("images/s, batch 1", _speed("batch_1"))
SPEED_8: Column = ("images/s, batch 8", _speed("batch_8"))
TO_TIMM_8: Column = ("to timm, batch 8", _to("batch_8", "timm"))


def schedules(result: dict[str, Any]) -> str:
    """The README's rows: what each kind of schedule costs and gives."""
    rows = [row for row in result["rows"] if row["schedule"] in SHOWN]
    rows.sort(key=lambda row: SHOWN.index(row["schedule"]))
    return _draw(result, rows, [WORK, SPEED_8, TO_TIMM_8, AGREEMENT, KL])


def deit_tiny(result: dict[str, Any]) -> str:
    """All schedules and figures."""
    columns = [
        AGREEMENT,
        TOP1,
        KL,
        (
            "in int8: same, %",
            lambda row: f"{row['int8']['agreement']:.1f}" if "int8" in row else "-",
        ),
        WORK,
        SPEED_1,
        ("to timm, batch 1", _to("batch_1", "timm")),
        ("to the reference, batch 1", _to("batch_1", "reference")),
        SPEED_8,
        TO_TIMM_8,
        ("to the reference, batch 8", _to("batch_8", "reference")),
    ]
    return _draw(result, result["rows"], columns)


def rules(result: dict[str, Any]) -> str:
    """The speed of both rules over that of the paper's rule, with equal counts."""
    lines = [line("model", ["batch", "both rules, images/s", "paper's rule, images/s", "ratio"])]
    lines.append(rule(4))
    for row in result["rules"]:
        both, papers = row["both"], row["papers"]
        cells = [str(row["batch"]), f"{both:.1f}", f"{papers:.1f}", f"{both / papers:.3f}"]
        lines.append(line(row["model"], cells))
    note = f"The counts of `guided:1.7`; {result['dtype']}; {machine(result)}; medians."
    return "\n".join(lines) + "\n\n" + note


def _draw(result: dict[str, Any], rows: Sequence[Row], columns: Sequence[Column]) -> str:
    lines = [line("schedule", [title for title, _ in columns]), rule(len(columns))]
    for row in rows:
        lines.append(line(f"`{row['schedule']}`", [cell(row) for _, cell in columns]))
    note = (
        f"DeiT-T, {result['rows'][0]['pictures']} pictures; {result['dtype']}; {machine(result)}; "
        f"{versions(result, 'torch', 'timm')}; medians."
    )
    return "\n".join(lines) + "\n\n" + note
