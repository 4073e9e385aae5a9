"""The table of results/rotary.json: speed of rotary models, and what the rotation costs."""

from __future__ import annotations

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

        def rate(peer: str, precision: str, schedule: str = "dense", rows: Any = rows) -> float:
            return float(rows[peer, precision, schedule]["rate"]["median"])

        timm = rate("timm eager", "float32")
        for precision in (p for peer, p, s in rows if (peer, s) == ("dsm_ext", "dense")):
            dense, merged = (rows["dsm_ext", precision, s] for s in ("dense", "dsm"))
            ours = rate("dsm_ext", precision)
            faster = rate("dsm_ext", precision, "dsm") / ours
            fewer = dense["gmacs"] / merged["gmacs"]
            cells = [
                str(group["batch"]),
                precision,
                f"{ours:.1f}",
                f"{ours / timm:.2f}",
                f"{ours / rate('dsm_ext, ViT with registers', precision):.2f}",
                f"{100 * (1 - ours / rate('dsm_ext, no rotation', precision)):.1f} %",
                f"{faster:.2f}",
                f"{faster / fewer:.2f}",
            ]
            lines.append(line(group["model"], cells))
    notes = (
        f"{result['img_size']} pixels, random weights, DSM with its default r. timm eager computes "
        "in float32. Medians; a machine's noise between two equal calls is about 2 %. "
        f"{machine(result)}; {versions(result, 'torch', 'timm')}."
    )
    return "\n".join(lines) + "\n\n" + notes
