"""Tables of results/rotary_rules.json: the choices of merging in rotary models."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from benchmarks.common import line, rule, versions

Row = dict[str, Any]


def rotary_rules(result: dict[str, Any]) -> str:
    """KL to dense, same answers and accuracy of each pair of choices."""
    return _draw(
        result,
        lambda row: f"{row['kl']:.4f}, {row['agreement']:.1f}, {row['accuracy']:.1f}",
        "Each cell: KL to dense, same answers as dense in %, accuracy in %. " + _about(result),
    )


def rotary_differences(result: dict[str, Any]) -> str:
    """The KL of each pair of choices less that of the first pair."""
    note = (
        "KL less that of the first pair of choices, with its standard error over the "
        f"{result['digits']} digits. The last line of each kind is the ratio of the KLs, its "
        "geometric mean over the schedules."
    )
    return _draw(result, _difference, note, ratios=True)


def _difference(row: Row) -> str:
    if row["difference"] == 0 == row["standard_error"]:
        return "0"
    return f"{row['difference']:+.4f} ± {row['standard_error']:.4f}"


def _draw(result: dict[str, Any], cell: Any, note: str, ratios: bool = False) -> str:
    rows = next(iter(result["kinds"].values()))["rows"]
    pairs = list(dict.fromkeys(f"{row['metric']}, {row['location']}" for row in rows))
    lines = [line("kind and schedule", pairs), rule(len(pairs))]
    for kind, found in result["kinds"].items():
        by_schedule = [list(g) for _, g in groupby(found["rows"], lambda row: row["schedule"])]
        for group in by_schedule:
            lines.append(line(f"{kind} `{group[0]['schedule']}`", [cell(row) for row in group]))
        if ratios:
            lines.append(line(f"{kind}, ratio", _ratios(by_schedule)))
    return "\n".join(lines) + "\n\n" + note


def _ratios(by_schedule: list[list[Row]]) -> list[str]:
    """For each pair of choices its KL over the first pair's, the geometric mean over schedules."""
    pairs = zip(*by_schedule, strict=True)
    logs = [
        [math.log(row["kl"] / group[0]["kl"]) for row, group in zip(rows, by_schedule, strict=True)]
        for rows in pairs
    ]
    return [f"{math.exp(sum(of) / len(of)):.2f}" for of in logs]


def _about(result: dict[str, Any]) -> str:
    """How many pictures and seeds, and how accurate the dense models are."""
    dense = ", ".join(
        f"{kind} {found['accuracy']:.1f} % ({_seeds(found['seeds'])})"
        for kind, found in result["kinds"].items()
    )
    return (
        f"{result['pictures']} pictures of {result['digits']} held-out digits; dense accuracy "
        f"{dense}; {versions(result, 'torch', 'timm')}."
    )


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
