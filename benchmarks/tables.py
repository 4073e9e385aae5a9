"""Draw the tables of README.md and NOTES.md from benchmarks/results/*.json, between their markers.

    python benchmarks/tables.py [--check]

With --check nothing is written; the status is 1 where a file differs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpu_tables import cpu, cpu_memory, cpu_peers
from embed_tables import embed, embed_all
from registry_table import registry

ROOT = Path(__file__).parent.parent
FILES = (ROOT / "README.md", ROOT / "benchmarks" / "NOTES.md")
RESULTS = Path(__file__).parent / "results"
SHOWN = (
    "dense",
    "tome:r=13",
    "dfe:r=16,skip=2",
    "dsm:r=16",
)


def deit_tiny(result: dict[str, Any]) -> str:
    lines = [
        "| schedule | top-1 % | as dense % | GMACs | batch 1: images/s | to timm | to reference "
        "| batch 8: images/s | to timm | to reference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["schedule"] not in SHOWN:
            continue
        cells = [f"{row['top1']:.1f}", f"{row['agreement']:.1f}", f"{row['gmacs']:.3f}"]
        for batch in ("batch_1", "batch_8"):
            median = {peer: rate["median"] for peer, rate in row[batch].items()}
            ours = median["dsm_ext"]
            cells += [f"{ours:.0f}"]
            cells += [f"{ours / median[peer]:.2f}" for peer in ("timm", "reference")]
        lines.append(f"| `{row['schedule']}` | {' | '.join(cells)} |")
    machine, versions = result["machine"], result["versions"]
    return (
        "\n".join(lines)
        + f"\n\n{result['rows'][0]['pictures']} pictures; float32; {machine['processor']}, "
        f"{machine['threads']} threads, {machine['capability']}; torch {versions['torch']}, "
        f"timm {versions['timm']}; medians."
    )


# By the name between a table's markers: the file it is drawn from, and how.
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "registry": ("registry.json", registry),
    "deit_tiny": ("deit_tiny.json", deit_tiny),
    "cpu": ("cpu.json", cpu),
    "cpu_peers": ("cpu.json", cpu_peers),
    "cpu_memory": ("cpu.json", cpu_memory),
    "embed": ("embed.json", embed),
    "embed_all": ("embed.json", embed_all),
}


def draw(text: str, results: Path) -> str:
    """The text, with every table drawn anew whose markers it has."""
    for name, (file, table) in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if pattern.search(text):
            drawn = table(json.loads((results / file).read_text()))
            text = pattern.sub(lambda m, drawn=drawn: f"{m[1]}{drawn}\n{m[2]}", text)
    return text


def main() -> int:
    differ = 0
    for file in FILES:
        text = file.read_text()
        drawn = draw(text, RESULTS)
        if drawn != text:
            differ = 1
            if "--check" not in sys.argv[1:]:
                file.write_text(drawn)
    return differ if "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
