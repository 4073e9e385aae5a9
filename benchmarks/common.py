"""Folders, processes and table rows that all benchmarks share. Needs Python alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def module_command(name: str) -> list[str]:
    """The command that runs a module of this package. Its working folder must be ``ROOT``."""
    return [sys.executable, "-m", f"benchmarks.{name}"]


def line(first: str, cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join([first, *cells])} |"


def rule(columns: int) -> str:
    """The row below the titles: the first column to the left, ``columns`` others to the right."""
    return "|---" + "|---:" * columns + "|"


def machine(result: dict[str, Any]) -> str:
    """Processor, threads and instruction sets of a result."""
    of = result["machine"]
    sets = [of["capability"], *(name.upper() for name in of.get("low_precision", ()))]
    return f"{of['processor']}, {of['threads']} threads, {', '.join(sets)}"


def versions(result: dict[str, Any], *names: str) -> str:
    """The versions of the named packages that a result has."""
    found = result["versions"]
    return ", ".join(f"{name} {found[name]}" for name in names if found.get(name))
