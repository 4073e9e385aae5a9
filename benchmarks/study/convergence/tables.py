"""The study's tables: blocks, delays, and what explains the errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.common import line, rule
from benchmarks.study.common.words import ratio
from dsm_ext.analysis.result import Block, Figures
from dsm_ext.cli.analyze import text
from dsm_ext.intervals import Interval

NAMES = {"photographs": "photographs", "digits": "digits"}
PARTS = {"amplification": "amplification", "change": "size of the change", "rest": "the rest"}


def blocks(result: dict[str, Any]) -> str:
    """A row for each block of the model on photographs."""
    return _blocks(result["photographs"])


def blocks_of_digits(result: dict[str, Any]) -> str:
    """A row for each block of the demo's model on digits."""
    return _blocks(result["digits"])


def delays(result: dict[str, Any]) -> str:
    """The KL of each delay on both kinds of pictures."""
    found = {name: Figures.from_dict(result[name]) for name in NAMES if name in result}
    heads = [f"{name}: KL" if i == 0 else "more than the best's" for name in found for i in (0, 1)]
    lines = [line("blocks that merge nothing", heads), rule(len(heads))]
    skips = sorted({delay.skip for figures in found.values() for delay in figures.delays})
    for skip in skips:
        cells = []
        for figures in found.values():
            row = next((delay for delay in figures.delays if delay.skip == skip), None)
            cells += ["-", "-"] if row is None else [_error(row.error), _worse(row.worse)]
        lines.append(line(str(skip), cells))
    speedups = " and ".join(f"{of.speedup:g} times fewer on {name}" for name, of in found.items())
    note = f"Multiply-adds of all rows, compared with the dense model's: {speedups}."
    return "\n".join(lines) + "\n\n" + note


def explained(result: dict[str, Any]) -> str:
    """What explains the differences between blocks in log KL."""
    found = {name: result[name]["claims"]["explained"] for name in NAMES if name in result}
    lines = [line("part of log KL", list(found)), rule(len(found))]
    for part, name in PARTS.items():
        cells = []
        for own in found.values():
            share = Interval(**own[part])
            cells.append(
                f"{100 * share.mean:.0f} ({100 * share.low:.0f} to {100 * share.high:.0f})"
            )
        lines.append(line(f"{name}, %", cells))
    return "\n".join(lines)


def example(result: dict[str, Any]) -> str:
    """What ``dsm-ext analyze`` prints for the model on photographs."""
    figures = Figures.from_dict(result["photographs"])
    return f"```text\n{text(result.get('model', 'MODEL'), figures)}\n```"


def _blocks(of: dict[str, Any]) -> str:
    figures = Figures.from_dict(of)
    heads = [
        "partner", "neighbours", "strangers", "distance", "entropy, %", "change, %", "KL, step",
        "KL, noise", "step / noise", "amplification",
    ]  # fmt: skip
    lines = [line("block", heads), rule(len(heads))]
    most = math.log(figures.grid[0] * figures.grid[1])
    ratios = [ratio(one) for one in of["claims"]["step_over_noise"]] + ["-"]  # the last has none
    lines += [
        line(str(block.index), _cells(block, most, over))
        for block, over in zip(figures.blocks, ratios, strict=True)
    ]
    note = (
        f"{figures.pictures} pictures; a step merges {figures.r} tokens. In brackets: 95 % "
        "intervals."
    )
    return "\n".join(lines) + "\n\n" + note


def _cells(block: Block, most: float, over: str) -> list[str]:
    heads, keys, amplified = len(block.entropy), block.keys, block.noise.amplification
    return [
        f"{keys.partner.mean:.2f}",
        f"{keys.neighbours.mean:.2f}",
        f"{keys.strangers.mean:.2f}",
        f"{sum(block.distance) / heads:.1f}",
        f"{100 * sum(block.entropy) / heads / most:.0f}",
        f"{100 * block.change.mean:.1f}",
        _error(block.step.error),
        _number(block.noise.error.mean),
        over,
        "-" if amplified is None else f"{amplified.mean:.2f}",
    ]


def _error(value: Interval) -> str:
    return f"{_number(value.mean)} ({_number(value.low)} to {_number(value.high)})"


def _number(value: float) -> str:
    if abs(value) < 1e-7:
        return "0"  # rounding
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.1e}"


def _worse(value: Interval) -> str:
    if value.mean == value.low == value.high == 0:
        return "the best"
    return f"+{_number(value.mean)}" + (", noise" if value.includes(0) else "")


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "convergence_blocks": blocks,
    "convergence_digits": blocks_of_digits,
    "convergence_delays": delays,
    "convergence_explained": explained,
    "convergence_example": example,
}
