"""What a C++ program costs beside Python, from results/embed.json."""

from __future__ import annotations

from typing import Any


def _milliseconds(rate: dict[str, float]) -> str:
    return f"{1e3 * rate['median']:.1f}"


def embed(result: dict[str, Any]) -> str:
    """One paragraph."""
    startup, memory, call = result["startup"], result["memory"], result["call"]
    overhead, machine = result["overhead"], result["machine"]
    cost = 1e6 * (overhead["Python"]["median"] - overhead["C++"]["median"])
    return (
        f"DeiT-S's first logits come {startup['C++']['median']:.2f} s after a C++ program's start, "
        f"{startup['Python']['median']:.1f} s in Python, {startup['timm']['median']:.1f} s by "
        f"timm. Frozen, it\nthen holds {memory['C++, frozen']['resident']:.0f} MB, "
        f"{memory['Python, frozen']['resident']:.0f} in Python; timm "
        f"{memory['timm']['resident']:.0f}. The wrapper adds {cost:.1f} us to a call: DSM "
        f"{_milliseconds(call['C++'])} ms in C++,\n{_milliseconds(call['Python'])} in Python, timm "
        f"dense {_milliseconds(call['timm'])}, on {machine['processor']}, {machine['threads']} "
        "threads."
    )


def embed_all(result: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| | start to first logits, s | resident, MB | of these, pages of files | most ever, MB "
        "| a call, ms | a call of nearly nothing, us |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, startup in result["startup"].items():
        memory = result["memory"][name]
        cells = [f"{startup['median']:.2f}"]
        cells += [f"{memory[key]:.0f}" for key in ("resident", "files", "most")]
        call, overhead = result["call"].get(name), result["overhead"].get(name)
        cells.append(_milliseconds(call) if call else "")
        cells.append(f"{1e6 * overhead['median']:.1f}" if overhead else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratio = result["call"]["Python to C++"]
    machine, versions = result["machine"], result["versions"]
    return (
        "\n".join(lines)
        + f"\n\n{result['model']}, batch 1, `{result['schedule']}`, timm dense; Python to C++ on "
        f"one call {ratio['median']:.3f} ({ratio['q1']:.3f} to {ratio['q3']:.3f}); float32; "
        f"{machine['processor']}, {machine['threads']} threads; torch {versions['torch']}, timm "
        f"{versions['timm']}; medians."
    )
