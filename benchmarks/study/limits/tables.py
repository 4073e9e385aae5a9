"""Tables of how far merging goes and of the pictures that fail first, for docs/study.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, rule
from benchmarks.study.common.words import difference, interval, ratio, subject
from benchmarks.study.limits.sweep import METHODS, REFERENCE

SHOWN = (1.2, 1.4, 1.7, 2.0, 2.3, 3.0, 4.0, 5.0, 7.0)  # speedups in the tables
EARLY = (1.2, 1.4, 1.7, 2.0, 2.6)
CAUSES = {
    "margin": "margin of the dense answer",
    "size": "size of the evidence",
    "mixed": "evidence merged with background",
    "busy": "busyness",
}
Network = dict[str, Any]


def answers(result: dict[str, Any]) -> str:
    """Same answers of each method at each speedup."""
    return _sweep(result, lambda row: interval(row["same"], 1), "Same answers as dense in %.")


def kl(result: dict[str, Any]) -> str:
    """KL of each method, and whether its difference to guided's is noise."""

    def cell(row: dict[str, Any]) -> str:
        noise = row["method"] != REFERENCE and _is_noise(row.get("kl_difference"))
        return f"{row['kl']['mean']:.4f}" + (", noise" if noise else "")

    about = "KL to dense in nats; noise: the difference to guided's includes 0."
    return _sweep(result, cell, about)


def top1(result: dict[str, Any]) -> str:
    """Accuracy of each method, where the pictures have labels."""

    def cell(row: dict[str, Any]) -> str:
        return "" if row["top1"] is None else interval(row["top1"], 1)

    return _sweep(result, cell, "Right answers in %.")


def _is_noise(of: dict[str, float] | None) -> bool:
    return of is not None and of["low"] <= 0 <= of["high"]


def _sweep(result: dict[str, Any], cell: Callable[[dict[str, Any]], str], about: str) -> str:
    lines = [line("", ["patches left", *METHODS]), rule(1 + len(METHODS))]
    for network in result["networks"]:
        for speedup in SHOWN:
            rows = {r["method"]: r for r in network["sweep"] if r["speedup"] == speedup}
            if all(row["same"]["mean"] == 100 for row in rows.values()):
                continue
            left = sorted({row["patches"] for row in rows.values()})
            span = f"{left[0]} to {left[-1]}" if len(left) > 1 else f"{left[0]}"
            cells = [cell(rows[name]) if name in rows else "not reached" for name in METHODS]
            lines.append(line(f"{_name(network)}, {speedup:g}x", [span, *cells]))
    return "\n".join(lines) + (
        f"\n\n{about} Rows in which no answer changes are left out. Patches left: tokens that "
        "the last block reads, the class token apart. "
        f"{subject(result)} {_digits(result)}"
    )


def delay(result: dict[str, Any]) -> str:
    """Where delay alone, and delay with windows, are better than ToMe, and where worse."""
    speedups = sorted({row["speedup"] for row in result["networks"][0]["sweep"]})
    lines = [line("", ["DFE", "DSM", "DFE: answers", "DSM: answers"]), rule(4)]
    for speedup in speedups:
        rows = [
            next((r for r in result["networks"][0]["sweep"]
                  if (r["speedup"], r["method"]) == (speedup, name)), None)
            for name in ("DFE", "DSM")
        ]  # fmt: skip
        if None in rows:
            continue
        cells = [ratio(row["kl_over_tome"]) for row in rows if row]
        cells += [difference(row["same_less_tome"]) for row in rows if row]
        lines.append(line(f"{speedup:g}x", cells))
    return "\n".join(lines) + (
        "\n\nFirst the KL over ToMe's (below 1 is better), then the same answers less ToMe's in "
        f"percentage points. {subject(result)}"
    )


def fail(result: dict[str, Any]) -> str:
    """How many pictures have lost their answer by some speedups, and how many get it back."""
    head = [*(f"by {speedup:g}x" for speedup in EARLY), "half by", "answer comes back, %"]
    lines = [line("pictures that failed, %", head), rule(len(head))]
    for network in result["networks"]:
        for name in METHODS:
            own = network["limits"][name]
            # a picture with limit s has failed by the next speedup, so by t if s < t
            shares = {float(speedup): share for speedup, share in own["shares"].items()}
            cells = [f"{sum(v for s, v in shares.items() if s < t):.1f}" for t in EARLY]
            later = [t for t in sorted(shares) if sum(v for s, v in shares.items() if s < t) >= 50]
            half = f"{later[0]:g}x" if later else f"beyond {own['reached']:g}x"
            back = interval(own["comes_back"], 0) if own["comes_back"] else ""
            lines.append(line(f"{_name(network)}, {name}", [*cells, half, back]))
    return "\n".join(lines) + (
        "\n\nA picture has failed by a speedup if its answer changed there or before. The last "
        "column is of the pictures that fail at all: those that have dense's answer again at a "
        "larger speedup."
    )


def correlations(result: dict[str, Any]) -> str:
    """What goes with a picture's limit and with its KL."""
    head = ["with the limit", "the same, margin removed", f"with the KL at {result['mixed_at']}x"]
    lines = [line("rank correlation", head), rule(len(head))]
    for network, method, why in _explained(result):
        for cause, words in CAUSES.items():
            own = why["correlations"][cause]
            names = ("limit", "limit_without_margin", "kl")
            cells = [difference(own[name], 2) if own[name] else "" for name in names]
            lines.append(line(f"{_name(network)}, {method}: {words}", cells))
    return "\n".join(lines) + (
        "\n\nSpearman's rank correlations over pictures, with 95 % intervals; noise: the interval "
        "includes 0. A cell is empty where the margin is itself, or where no picture fails. "
        "*Margin removed*: what is left after the ranks of the margin, along a line."
    )


def thirds(result: dict[str, Any]) -> str:
    """Answers kept by thirds of the evidence's size and of the margin."""
    names = ("small", "middle", "large")
    head = [f"{name} margin" for name in names]
    lines = [line("answers kept, %", head), rule(3)]
    notes = []
    for network, method, why in _explained(result):
        if network is not result["networks"][0]:
            continue
        for name, row in zip(names, why["thirds"], strict=True):
            cells = [interval(c, 0) + f", {c['count']} pictures" if c["count"] else "" for c in row]
            lines.append(line(f"{method}, {name} evidence", cells))
        notes.append(f"{method} up to {why['target']:g}x (it keeps {why['kept']['mean']:.1f} %)")
    typical = result["networks"][0]["typical"]
    return "\n".join(lines) + (
        f"\n\n{_name(result['networks'][0])}; {', '.join(notes)}. Borders of the thirds: margin "
        f"{_pair(typical['margin'])}, size {_pair(typical['size'])} of the patches."
    )


def predictors(result: dict[str, Any]) -> str:
    """How well each cause tells the pictures that fail, and what is lost without it."""
    columns = [
        (network, method, why) for network, method, why in _explained(result) if why["predictors"]
    ]
    head = [f"{_name(network)}, {method} by {why['target']:g}x" for network, method, why in columns]
    lines = [line("area under the ROC curve", head), rule(len(head))]
    for cause, words in {**CAUSES, "all": "all four"}.items():
        cells = [interval(why["predictors"][cause]) for _, _, why in columns]
        lines.append(line(words, cells))
    for cause, words in CAUSES.items():
        names = [why["predictors"][f"all but {cause}"]["difference"] for _, _, why in columns]
        lines.append(line(f"all without: {words}", [difference(of, 3) for of in names]))
    return "\n".join(lines) + (
        "\n\nLogistic regressions, each of one half of the pictures and judged on the other half. "
        "0.5 is guessing, 1 tells every failure. The last rows are differences to all four."
    )


def _explained(result: dict[str, Any]) -> list[tuple[Network, str, dict[str, Any]]]:
    return [
        (network, method, why)
        for network in result["networks"]
        for method, why in network.get("why", {}).items()
    ]


def _name(network: Network) -> str:
    return {"deit_tiny_patch16_224": "DeiT-T"}.get(network["name"], network["name"])


def _digits(result: dict[str, Any]) -> str:
    own = result["networks"][-1]
    return f"{own['name']}: {own['pictures']} held-out digits."


def _pair(values: list[float]) -> str:
    return " and ".join(f"{value:.2f}" for value in values)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "limits_answers": answers,
    "limits_kl": kl,
    "limits_top1": top1,
    "limits_delay": delay,
    "limits_fail": fail,
    "limits_correlations": correlations,
    "limits_thirds": thirds,
    "limits_predictors": predictors,
}
