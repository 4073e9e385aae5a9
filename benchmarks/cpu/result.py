"""Takes figures out of results/cpu.json. A figure that was not measured, or failed, is None."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from dsm_ext.cli import profile

Group = dict[str, Any]
Row = dict[str, Any]

DENSE = ("timm eager", "timm compiled", "onnxruntime", "openvino")
MERGED = ("reference", "reference compiled", "reference onnxruntime", "reference openvino")
SGEMM = ("sgemm torch.mm", "sgemm oneDNN")


def merged_schedule(group: Group) -> str:
    """The first schedule of a group that merges; "" where none does."""
    return next((r["schedule"] for r in group["rows"] if r.get("schedule", "dense") != "dense"), "")


def find(
    group: Group, peer: str, schedule: str = "dense", precision: str = "float32", **fields: Any
) -> Row | None:
    """The row of a peer that has figures. Rows of the machine's ceilings fit every schedule."""
    for row in group["rows"]:
        if (
            row["peer"] == peer
            and row.get("schedule", schedule) == schedule
            and row.get("precision", "float32") == precision
            and all(row.get(name) == value for name, value in fields.items())
            and ("rate" in row or "growth" in row)
        ):
            return row
    return None


def ratio(a: Row | None, b: Row | None) -> float | None:
    """The median over the rounds of a's rate divided by b's rate.

    Both rates of a round were measured within seconds, so a machine that slowly changes its speed
    does not change the quotient.
    """
    if a is None or b is None:
        return None
    return statistics.median(x / y for x, y in zip(a["rounds"], b["rounds"], strict=True))


def best(rows: Iterable[Row | None]) -> Row | None:
    """The fastest of the rows that exist."""
    present = [row for row in rows if row is not None]
    return max(present, key=lambda row: row["rate"]["median"], default=None)


def merging_share(row: Row | None) -> float | None:
    """The share of the threads' time that matching and merging take."""
    if row is None or "profile" not in row:
        return None
    return profile.merging_share(row["profile"])


def figures(
    group: Group, threads: Group | None = None, memory: Group | None = None
) -> dict[str, float | tuple[float, str] | None]:
    """The figures of one model and batch, by name. A figure beside the best peer names that peer.

    Args:
        group: the measurement in the section "models".
        threads: the measurement of the same model and batch in the section "threads".
        memory: the measurement of the same model and batch in the section "memory".
    """
    schedule = merged_schedule(group)
    dense, merged = find(group, "dsm_ext"), find(group, "dsm_ext", schedule)
    rival_dense = best(find(group, peer) for peer in DENSE)
    rival = best(find(group, peer, schedule) for peer in MERGED)
    sgemm = best(find(group, peer) for peer in SGEMM)
    timm = find(group, "timm eager")
    found: dict[str, float | tuple[float, str] | None] = {
        "dense": _median(dense),
        "dense / best": _named(ratio(dense, rival_dense), rival_dense),
        "dense / timm": ratio(dense, timm),
        "dense / sgemm": _flops_ratio(ratio(dense, sgemm), dense),
        "dsm": _median(merged),
        "dsm / dense": ratio(merged, dense),
        "dsm / arithmetic": None,
        "dsm / timm": ratio(merged, timm),
        "dsm / reference": ratio(merged, find(group, "reference", schedule)),
        "dsm / best": _named(ratio(merged, rival), rival),
        "merging": merging_share(merged),
        "dense threads": None,
        "dsm threads": None,
        "dense memory": None,
        "dense memory, frozen": None,
    }
    if dense is not None and merged is not None:
        saved = dense["multiply_adds"] / merged["multiply_adds"]
        found["dsm / arithmetic"] = (ratio(merged, dense) or 0) / saved
    if threads is not None:
        most = max(row["threads"] for row in threads["rows"])
        for name, kind in (("dense threads", "dense"), ("dsm threads", schedule)):
            many = find(threads, "dsm_ext", kind, threads=most)
            found[name] = ratio(many, find(threads, "dsm_ext", kind, threads=1))
    if memory is not None:
        for name, peer in (("dense memory", "dsm_ext"), ("dense memory, frozen", "dsm_ext frozen")):
            found[name] = growth(memory, peer)
    return found


def growth(
    memory: Group, peer: str, schedule: str = "dense", precision: str = "float32"
) -> float | None:
    """The memory that a peer adds to its process, divided by what timm eager adds in float32."""
    row, base = find(memory, peer, schedule, precision), find(memory, "timm eager")
    return None if row is None or base is None else row["growth"] / base["growth"]


def _median(row: Row | None) -> float | None:
    return row and row["rate"]["median"]


def _named(value: float | None, row: Row | None) -> tuple[float, str] | None:
    return None if value is None or row is None else (value, row["peer"])


def _flops_ratio(value: float | None, row: Row | None) -> float | None:
    """Images per FLOP become FLOPs per FLOP: an image takes two for each multiply-add."""
    return None if value is None or row is None else value * 2 * row["multiply_adds"]
