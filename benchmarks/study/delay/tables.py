"""Tables of delays and windows, for docs/study.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, machine, rule
from benchmarks.study.common.words import difference, interval, ratio, subject

Row = dict[str, Any]
EQUAL_R = 16


def claims(result: dict[str, Any], name: str) -> str:
    """The KL of each delay over that without one, or of each window over that without windows."""
    rows = [row for row in result["claims"] if row["claim"] == name]
    speedups = sorted({row["speedup"] for row in rows})
    lines = [line("", [f"{speedup:g}x" for speedup in speedups]), rule(len(speedups))]
    for of, than in dict.fromkeys((_place(row["of"]), _place(row["than"])) for row in rows):
        cells = []
        for speedup in speedups:
            own = [
                row
                for row in rows
                if (row["speedup"], _place(row["of"]), _place(row["than"])) == (speedup, of, than)
            ]
            cells.append(ratio(own[0]["kl"]) if own else "")
        lines.append(line(f"{of} over {than}", cells))
    return "\n".join(lines) + f"\n\nRatio of the KLs to dense; below 1 is better. {subject(result)}"


def equal_r(result: dict[str, Any]) -> str:
    """Every delay and window at one r: what differs in multiply-adds too."""
    head = ["GMACs", "time, % of dense", "KL to dense", "same answers, %"]
    lines = [line(f"r = {EQUAL_R}", head), rule(len(head))]
    for row in result["rows"]:
        if (row["at"], row["amount"]) != ("r", EQUAL_R):
            continue
        lines.append(
            line(
                _place(row),
                [
                    f"{row['gmacs']:.3f}",
                    f"{100 * row['time']:.0f}",
                    interval(row["kl"], 4),
                    interval(row["agreement"], 1),
                ],
            )
        )
    return "\n".join(lines) + f"\n\n{subject(result)} {machine(result)}."


def answers(result: dict[str, Any]) -> str:
    """How many more answers delay, windows and both keep, in percentage points."""
    pairs = [("no windows, delay 2", "ToMe"), ("windows 7, delay 2", "ToMe"),
             ("windows 7, delay 2", "no windows, delay 2")]  # fmt: skip
    speedups = sorted({row["speedup"] for row in result["claims"]})
    lines = [line("", [f"{speedup:g}x" for speedup in speedups]), rule(len(speedups))]
    for of, than in pairs:
        found = {
            row["speedup"]: difference(row["answers"])
            for row in result["claims"]
            if (_place(row["of"]), _place(row["than"])) == (of, than)
        }
        lines.append(line(f"{of} less {than}", [found.get(s, "") for s in speedups]))
    return "\n".join(lines) + "\n\nSame answers as dense, difference in percentage points."


def halves(result: dict[str, Any]) -> str:
    """The best delay and window of one half of the pictures, judged on the other half."""
    head = ["best of one half", "KL on the other", "over ToMe's", "over that of delay 2, windows 7"]
    lines = [line("times fewer", head), rule(len(head))]
    for row in result["halves"]:
        cells = [
            _place(row),
            interval(row["kl"], 4),
            ratio(row["to_tome"]),
            ratio(row["to_together"]),
        ]
        lines.append(line(f"{row['speedup']:g}", cells))
    return "\n".join(lines)


def spans(result: dict[str, Any]) -> str:
    """KL by the number of blocks that merge in windows."""
    rows = [row for row in result["rows"] if row["at"] == "span"]
    lines = [line("blocks with windows", [str(row["local"]) for row in rows]), rule(len(rows))]
    lines.append(line("KL to dense", [interval(row["kl"], 4) for row in rows]))
    lines.append(line("same answers, %", [f"{row['agreement']['mean']:.1f}" for row in rows]))
    first = rows[0]
    return "\n".join(lines) + (
        f"\n\nDelay {first['skip']}, windows of {first['window']}, {first['amount']:g} times fewer "
        "multiply-adds."
    )


def _place(row: Row) -> str:
    window = f"windows {row['window']}" if row["window"] else "no windows"
    if row["skip"] == 0:
        return window if row["window"] else "ToMe"
    return f"{window}, delay {row['skip']}"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "delay_kl": lambda result: claims(result, "delay"),
    "delay_windows": lambda result: claims(result, "windows"),
    "delay_both": lambda result: claims(result, "both"),
    "delay_equal_r": equal_r,
    "delay_answers": answers,
    "delay_halves": halves,
    "delay_spans": spans,
}
