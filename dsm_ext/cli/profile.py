"""``dsm-ext bench --profile``: where the time of a forward goes, by stage and block."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dsm_ext._native import _C
from dsm_ext.cli import output
from dsm_ext.model import VisionTransformer

MERGING = ("match", "merge")


def measure(model: VisionTransformer, images: Tensor, runs: int) -> dict[str, Any]:
    """The profile of the run of median duration, after one run that is not counted."""
    model.profile(images)
    profiles = sorted((model.profile(images) for _ in range(runs)), key=lambda p: p["wall"])
    return profiles[runs // 2] | {"tokens": [block.tokens_in for block in model.plan.blocks]}


def merging_share(profile: dict[str, Any]) -> float:
    """The share of a forward's time that is spent on matching and merging.

    Except on the CPU's fast path it contains the norm after the merge.
    """
    spent = sum(block.get(stage, 0.0) for block in profile["blocks"] for stage in MERGING)
    return spent / (profile["wall"] * profile["threads"])


def totals(profile: dict[str, Any]) -> dict[str, float]:
    """Seconds for each stage, summed over the blocks and the work before and after them."""
    parts = [profile["before"], *profile["blocks"], profile["after"]]
    return {s: sum(p.get(s, 0.0) for p in parts) for s in _C.STAGES if any(s in p for p in parts)}


def table(profile: dict[str, Any]) -> str:
    """Format milliseconds of wall time by block and stage. A stage's time is shared by threads."""
    threads = profile["threads"]
    blocks = profile["blocks"]
    parts = [("before", "", profile["before"])]
    parts += [
        (str(i), str(n), b) for i, (n, b) in enumerate(zip(profile["tokens"], blocks, strict=True))
    ]
    parts += [("after", "", profile["after"])]
    total = totals(profile)
    stages = list(total)

    def row(label: str, tokens: str, part: dict[str, float], form: str, scale: float) -> list[str]:
        cells = [f"{part[s] * scale:{form}}" if s in part else "" for s in stages]
        return [label, tokens, *cells, f"{sum(part.values()) * scale:{form}}"]

    rows = [row(*part, ".3f", 1e3 / threads) for part in parts]
    rows.append(row("all", "", total, ".3f", 1e3 / threads))
    rows.append(row("%", "", total, ".1f", 100 / threads / profile["wall"]))
    noun = "thread" if threads == 1 else "threads"
    busy = sum(total.values()) / threads / profile["wall"]
    return (
        output.table(["block", "tokens", *stages, "all"], rows)
        + f"\n{1e3 * profile['wall']:.2f} ms on {threads} {noun}, {100 * (1 - busy):.1f} % of it "
        f"waiting; matching and merging {100 * merging_share(profile):.1f} %"
    )
