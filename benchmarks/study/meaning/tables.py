"""Tables of results/study/meaning.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, rule
from benchmarks.study.common.words import ratio
from benchmarks.study.meaning.figures import GROUPS

Result = dict[str, Any]


def meaning_windows(result: Result) -> str:
    """KL of windows over that of global steps, for each kind of pictures and each window."""
    kinds = result["kinds"]
    windows = list(next(iter(kinds.values()))["mean_ratio"][GROUPS[0]])
    heads = ["pictures", *(f"{group}, {window}" for group in GROUPS for window in windows)]
    lines = [line("kind", heads), rule(len(heads))]
    for name, of in kinds.items():
        ratios = [of["mean_ratio"][group][window] for group in GROUPS for window in windows]
        lines.append(line(name, [str(of["pictures"]), *(_ratio(r) for r in ratios)]))
    for name, groups in result["permuted_to_natural"].items():
        ratios = [groups[group][window] for group in GROUPS for window in windows]
        lines.append(line(f"{name}: permuted over in place", ["", *(_ratio(r) for r in ratios)]))
    skips = " and ".join(str(skip) for skip in result["skips"])
    removed = " and ".join(str(r) for r in result["removed"])
    note = (
        "KL to dense of windows of so many patches a side, over that of global steps; above 1 "
        "windows lose. The geometric mean over the schedules, with its 95 % interval over "
        f"pictures. *Whole schedules*: delay {skips}, "
        f"{_speedups(result)} times fewer multiply-adds. *One block*: {removed} tokens in one "
        "block alone, an early one and a middle one."
    )
    return "\n".join(lines) + "\n\n" + note


def meaning_schedules(result: Result) -> str:
    """Every comparison of the photographs, in place and permuted."""
    names = [name for name in result["kinds"] if name.startswith("photographs")]
    heads = [f"{name}: {what}" for name in names for what in ("KL, global", "windows / global")]
    lines = [line("case and window", heads), rule(len(heads))]
    for rows in zip(*(result["kinds"][name]["rows"] for name in names), strict=True):
        cells = []
        for row in rows:
            cells += [f"{row['kl_global']['mean']:.4f}", _ratio(row["ratio"])]
        lines.append(line(f"{rows[0]['case']}, {rows[0]['window']}", cells))
    return "\n".join(lines)


def meaning_likeness(result: Result) -> str:
    """How alike neighbours, strangers and merged pairs are."""
    kinds = result["kinds"]
    windows = list(next(iter(kinds.values()))["likeness"]["pairs"])
    heads = ["neighbours", "strangers"]
    heads += [f"pairs, {_step(window)}" for window in windows]
    lines = [line("kind", heads), rule(len(heads))]
    for name, of in kinds.items():
        alike = of["likeness"]
        values = [alike["neighbours"], alike["strangers"], *alike["pairs"].values()]
        lines.append(line(name, [f"{value['mean']:.4f}" for value in values]))
    about = result["likeness"]
    note = (
        f"Mean cosines of the keys in block {about['block']}, where nothing merges before it: of "
        "patches that share a side, of all patches, and of the pairs that a step of "
        f"{about['pairs']} tokens merges; {about['pictures']} pictures of each kind."
    )
    return "\n".join(lines) + "\n\n" + note


def _step(window: str) -> str:
    return "global" if window == "0" else f"windows of {window}"


def _ratio(of: dict[str, float] | None) -> str:
    return "too small to compare" if of is None else ratio(of)


def _speedups(result: Result) -> str:
    photographs, digits = (
        " and ".join(str(speedup) for speedup in result["kinds"][name]["speedups"])
        for name in ("photographs", "digits")
    )
    return f"{photographs} (digits: {digits})"


TABLES: dict[str, Callable[[Result], str]] = {
    "meaning_windows": meaning_windows,
    "meaning_schedules": meaning_schedules,
    "meaning_likeness": meaning_likeness,
}
