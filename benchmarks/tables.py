"""Draws the tables of the documents from benchmarks/results/*.json, between their markers.

    python -m benchmarks.tables [--check]

A table NAME stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``. With --check no file is
written, and the exit status is 1 where a document differs from the results.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import RESULTS, ROOT
from benchmarks.cpu import precision_tables
from benchmarks.cpu.deit_tiny_tables import deit_tiny, rules, schedules
from benchmarks.cpu.predict_tables import predict
from benchmarks.cpu.rotary_tables import rotary
from benchmarks.cpu.tables import cpu, cpu_memory, cpu_peers
from benchmarks.embed.tables import embed
from benchmarks.gpu.tables import gpu
from benchmarks.study.common.part import PARTS, module
from benchmarks.study.rotary.tables import rotary_differences, rotary_rules
from benchmarks.support_table import refused, support

DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "models.md",
    ROOT / "docs" / "predict.md",
    ROOT / "docs" / "study.md",
    ROOT / "benchmarks" / "NOTES.md",
)

# By the name between a table's markers: the files it is drawn from, and the function that draws it.
TABLES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    **precision_tables.TABLES,
    "schedules": (("deit_tiny.json",), schedules),
    "support": (("registry.json",), support),
    "refused": (("registry.json",), refused),
    "cpu": (("cpu.json",), cpu),
    "cpu_peers": (("cpu.json",), cpu_peers),
    "cpu_memory": (("cpu.json",), cpu_memory),
    "deit_tiny": (("deit_tiny.json",), deit_tiny),
    "rules": (("deit_tiny.json",), rules),
    "predict": (("predict.json", "precision.json"), predict),
    "rotary": (("rotary.json",), rotary),
    "embed": (("embed.json",), embed),
    "gpu": (("gpu.json",), gpu),
    "rotary_rules": (("rotary_rules.json",), rotary_rules),
    "rotary_differences": (("rotary_rules.json",), rotary_differences),
    **{
        name: ((f"study/{part}.json",), table)
        for part in PARTS
        for name, table in module(part, "tables").TABLES.items()
    },
}


def draw(text: str, results: Path) -> str:
    """The text, in which every table that it has markers for is drawn anew.

    Raises:
        KeyError: a marker that no table has.
    """
    for name in re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE):
        files, table = TABLES[name]
        drawn = table(*(json.loads((results / file).read_text()) for file in files))
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, drawn=drawn: f"{m[1]}{drawn}\n{m[2]}", text)
    return text


def main() -> int:
    check = "--check" in sys.argv[1:]
    differ = 0
    for document in DOCUMENTS:
        text = document.read_text()
        drawn = draw(text, RESULTS)
        if drawn != text:
            differ = 1
            if not check:
                document.write_text(drawn)
    return differ if check else 0


if __name__ == "__main__":
    sys.exit(main())
