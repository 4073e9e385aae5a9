"""The table of results/rotary.json: speed of rotary models, and what the rotation costs."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.common import line, machine, rule, versions

TITLES = [
    "batch", "precision", "dense, images/s", "dense / timm eager", "dense / ViT with registers",
    "rotation's share", "DSM / dense", "of the arithmetic saved",
]  # fmt: skip


def rotary(result: dict[str, Any]) -> str:
    """Speed by model, batch and precision, each beside its peers of the same run."""
    lines = [line("model", TITLES), rule(len(TITLES))]
    for group in result["groups"]:
        rows = {(r["peer"], r["precision"], r["schedule"]): r for r in group["rows"]}

        def ratio(row: Any, peer: str, precision: str, rows: Any = rows) -> float:
            """The median over the rounds: a slow period of the machine falls on both calls."""
            other = rows[peer, precision, "dense"]["rates"]
            return statistics.median(a / b for a, b in zip(row["rates"], other, strict=True))

        for precision in (p for peer, p, s in rows if (peer, s) == ("dsm_ext", "dense")):
            dense, merged = (rows["dsm_ext", precision, s] for s in ("dense", "dsm"))
            faster = ratio(merged, "dsm_ext", precision)
            fewer = dense["gmacs"] / merged["gmacs"]
            cells = [
                str(group["batch"]),
                precision,
                f"{dense['rate']['median']:.1f}",
                f"{ratio(dense, 'timm eager', 'float32'):.2f}",
                f"{ratio(dense, 'dsm_ext, ViT with registers', precision):.2f}",
                f"{100 * (1 - ratio(dense, 'dsm_ext, no rotation', precision)):.1f} %",
                f"{faster:.2f}",
                f"{faster / fewer:.2f}",
            ]
            lines.append(line(group["model"], cells))
    notes = (
        f"{result['img_size']} pixels, random weights, DSM with its default r. timm eager computes "
        "in float32. Speeds are medians over the rounds, ratios the medians of each round's ratio. "
        f"{machine(result)}; {versions(result, 'torch', 'timm')}."
    )
    return "\n".join(lines) + "\n\n" + notes
