"""The README's table of support, of results/registry.json."""

from __future__ import annotations

import re
from typing import Any

# By what a model's name has in it; the first that fits.
FAMILIES = {
    "DeiT, DeiT-III": r"^deit",
    "CLIP": r"_clip_",
    "SigLIP, SigLIP 2": r"_siglip_",
    "DINOv2": r"_dinov2",
    "AIMv2, BEiT-3, EVA, InternViT, RADIO, TIPSv2": r"^(aimv2|beit3|eva)|_(intern|radio|tipsv2)",
    "ViT, FlexiViT and others": r"",
}


def registry(result: dict[str, Any]) -> str:
    """How many models of each family run, and how far they are from what they should give."""
    rows = result["rows"]
    groups: dict[str, list[dict[str, Any]]] = {family: [] for family in FAMILIES}
    for row in rows:
        family = next(f for f, pattern in FAMILIES.items() if re.search(pattern, row["model"]))
        groups[family].append(row)
    lines = [
        "| timm's models | run | furthest from timm, dense | from the reference, DSM |",
        "|---|---:|---:|---:|",
    ]
    for family, members in groups.items():
        run = [row for row in members if "dense" in row]
        cells = [f"{len(run)} of {len(members)}"]
        cells += [f"{max(row[kind] for row in run):.0e}" for kind in ("dense", "merged")]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    refused = [row for row in rows if "dense" not in row]
    fewer = sum(row["built"] < row["depth"] for row in rows if "depth" in row)
    run = len(rows) - len(refused)
    notes = f"{run} of {len(rows)} run, {100 * run / len(rows):.0f} %; random weights, float32, in "
    notes += f"units of the largest output; {fewer} large ones built with fewer blocks; "
    notes += f"timm {result['versions']['timm']}."
    if refused:
        notes += f" Refused by name: {', '.join(_why(row) for row in refused)}."
    return "\n".join(lines) + "\n\n" + notes


def _why(row: dict[str, Any]) -> str:
    why = re.search(r" with (.*) is not supported", row.get("refused", row.get("failed", "")))
    return f"`{row['model']}` ({why[1] if why else 'failed'})"
