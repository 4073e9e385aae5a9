"""The table of results/embed.json: what a model costs in a C++ program, in Python, and by timm."""

from __future__ import annotations

from typing import Any

from benchmarks.common import line, machine, rule, versions


def embed(result: dict[str, Any]) -> str:
    """One call, and one call of a model that does nearly nothing.

    Start-up and memory are in the result too. They are left out: they were measured when weight
    files were mapped into memory, and today they are read.
    """
    lines = [line("", ["a call, ms", "a call of nearly nothing, us"]), rule(2)]
    for name in ("C++", "Python", "timm"):
        call, overhead = result["call"].get(name), result["overhead"].get(name)
        cells = [
            f"{1e3 * call['median']:.1f}" if call else "–",
            f"{1e6 * overhead['median']:.1f}" if overhead else "–",
        ]
        lines.append(line(name, cells))
    ratio = result["call"]["Python to C++"]
    notes = [
        f"{result['model']}, batch 1, `{result['schedule']}`, timm dense",
        "Python to C++ in one round, a call: "
        f"{ratio['median']:.3f} ({ratio['q1']:.3f} to {ratio['q3']:.3f})",
        f"float32; {machine(result)}",
        versions(result, "torch", "timm"),
        "medians",
    ]
    return "\n".join(lines) + "\n\n" + "; ".join(notes) + "."
