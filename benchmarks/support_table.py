"""Tables of results/registry.json: which of timm's models run, and which are refused."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.common import line, rule

# A model belongs to the first family whose pattern its name has.
FAMILIES = {
    "DeiT, DeiT-III": r"^deit",
    "EVA, EVA-02, EVA-CLIP": r"^eva",
    "Perception Encoder": r"_pe_",
    "CLIP, SigLIP, SigLIP 2": r"_(clip|siglip)_",
    "DINOv2, DINOv3": r"_dinov[23]",
    "LingBot-Vision, RoPE-ViT, Sapiens2": r"_(lingbot|rope_|sapiens2)",
    "AIMv2, BEiT-3, InternViT, RADIO, TIPSv2": r"^(aimv2|beit3)|_(intern|radio|tipsv2)",
    "ViT, FlexiViT and others": r"",
}


def support(result: dict[str, Any]) -> str:
    """How many models of each family run, and how far their outputs are from what is expected."""
    rows = result["rows"]
    groups: dict[str, list[dict[str, Any]]] = {family: [] for family in FAMILIES}
    for row in rows:
        family = next(f for f, pattern in FAMILIES.items() if re.search(pattern, row["model"]))
        groups[family].append(row)
    titles = ["run", "largest error to timm, dense", "largest error to the reference, DSM"]
    lines = [line("timm's models", titles), rule(len(titles))]
    for family, members in groups.items():
        run = [row for row in members if "dense" in row]
        cells = [f"{len(run)} of {len(members)}"]
        cells += [f"{max(row[kind] for row in run):.0e}" for kind in ("dense", "merged")]
        lines.append(line(family, cells))
    run = [row for row in rows if "dense" in row]
    fewer = sum(row["built"] < row["depth"] for row in rows if "depth" in row)
    notes = (
        f"{len(run)} of {len(rows)} models run ({100 * len(run) / len(rows):.0f} %). Random "
        "weights, float32; an error is a share of the largest output. "
        f"{fewer} large models were built with fewer blocks. "
        f"timm {result['versions']['timm']}."
    )
    return "\n".join(lines) + "\n\n" + notes


def refused(result: dict[str, Any]) -> str:
    """The models that are refused, each with its reason."""
    rows = [row for row in result["rows"] if "dense" not in row]
    return "\n".join(f"- `{row['model']}`: {_reason(row)}" for row in rows)


def _reason(row: dict[str, Any]) -> str:
    found = re.search(r" with (.*) is not supported", row.get("refused", row.get("failed", "")))
    return found[1] if found else "failed"
