"""The part's tables for docs/study.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.common import line, rule, versions
from benchmarks.study.common import words
from benchmarks.study.sharpness.compare import MEASURES, PEERS, geometric_mean

METHODS = ("ToMe", "DFE", "DSM", "guided")
CLAIMS = {
    "accuracy": "with SAM a model loses less accuracy to merging",
    "kl": "with SAM the answers stay closer to the dense model's (KL)",
    **{
        measure: f"merging sharpens the loss, and less so with SAM: {label}"
        for measure, label in MEASURES.items()
    },
}


def trainings(result: dict[str, Any]) -> str:
    """What each training costs, and what it reaches without merging."""
    rows = [
        line("training", ["epochs", "gradients a step", "processor s", "accuracy, %", "length"]),
        rule(5),
    ]
    for name, of in result["trainings"].items():
        cells = [
            str(of["epochs"]),
            str(of["gradients_per_step"]),
            spread(of["seconds"], 0),
            spread(result["answers"][name]["dense"]["accuracy"], 1),
            spread(of["length"], 1),
        ]
        rows.append(line(name, cells))
    return "\n".join([*rows, "", _about(result)])


def answers(result: dict[str, Any]) -> str:
    """Accuracy and same answers at equal multiply-adds, by training."""
    names = list(result["answers"])
    rows = [line("multiply-adds and method", names), rule(len(names))]
    for speedup in result["settings"]["speedups"]:
        for method in METHODS:
            key = f"{method} {speedup}x"
            cells = []
            for name in names:
                of = result["answers"][name].get(key)
                cells.append("" if of is None else _answer(of))
            rows.append(line(f"1 / {speedup}, {method}", cells))
    note = "Accuracy in %, same answers as dense in %, KL to dense in nats: means over the seeds."
    return "\n".join([*rows, "", note])


def less_lost(result: dict[str, Any]) -> str:
    """What SAM changes of the cost of merging, with intervals over the digits."""
    rows = [
        line(
            "schedule", [f"{what}, against {peer}" for peer in PEERS for what in ("points", "KL")]
        ),
        rule(2 * len(PEERS)),
    ]
    for schedule in result["less_lost"][PEERS[0]]:
        cells = []
        for peer in PEERS:
            of = result["less_lost"][peer][schedule]
            cells += [words.difference(of["accuracy"]), words.ratio(of["kl"])]
        rows.append(line(schedule, cells))
    note = (
        "Points of accuracy that a model loses less to merging with SAM than without; the ratio of "
        "its KL to the other's. 95 % intervals, bootstrapped over the digits. Of all together, by "
        f"seed: {'; '.join(_by_seed(result, peer) for peer in PEERS)}."
    )
    return "\n".join([*rows, "", note])


def _by_seed(result: dict[str, Any], peer: str) -> str:
    of = result["less_lost"][peer]["all together"]
    points = ", ".join(f"{v:+.1f}" for v in of["accuracy"]["by_seed"])
    ratios = ", ".join(f"{v:.2f}" for v in of["kl"]["by_seed"])
    return f"against {peer} {points} points and ratios {ratios}"


def sharpness(result: dict[str, Any]) -> str:
    """Sharpness without merging, and by which factor merging changes it."""
    names = list(result["sharpness"])
    rows = [line("measure", names), rule(len(names))]
    for measure, label in MEASURES.items():
        for method in result["sharpness"][names[0]][measure]:
            own = [result["sharpness"][name][measure][method] for name in names]
            if method == "dense":
                cells = [spread(of["values"], 3 if max(of["values"]) < 10 else 1) for of in own]
                rows.append(line(f"{label}, dense", cells))
            else:
                cells = [factor(of["ratios"]) for of in own]
                rows.append(line(f"{label}, {method} / dense", cells))
    settings = result["settings"]
    note = (
        f"Of the training loss on {settings['probes']} training digits. The ball has the radius "
        f"{settings['radius']:g} in all parameters together. At 2.0x a method needs half of the "
        f"dense multiply-adds. In brackets: lowest to highest of {settings['seeds']} seeds."
    )
    return "\n".join([*rows, "", note])


def photographs(result: dict[str, Any]) -> str:
    """The sharpness of the study's own model: of its loss on photographs."""
    of = result.get("photographs")
    if of is None:
        return "Not measured: this needs a model and photographs."
    head = [
        "loss",
        "size of the largest eigenvalue",
        "over dense",
        "rise in the ball",
        "over dense",
    ]
    rows = [line("method", head), rule(len(head))]
    dense = of["values"]["dense"]
    for method, values in of["values"].items():
        cells = [spread([one["loss"] for one in values], 3)]
        for digits, sharp in ((0, _eigenvalue), (3, _in_ball)):
            own, other = [sharp(one) for one in values], [sharp(one) for one in dense]
            cells.append(spread(own, digits))
            ratios = [a / b for a, b in zip(own, other, strict=True)]
            cells.append("" if method == "dense" else factor(ratios))
        rows.append(line(method, cells))
    note = (
        f"`{of['model']}`, the cross-entropy of {of['pictures']} photographs; in brackets: lowest "
        f"to highest of {len(dense)} groups of other photographs. The ball has the radius "
        f"{result['settings']['radius']:g}. The eigenvalue of the largest size is negative for "
        f"{_negative(of['values'])} losses with merging."
    )
    return "\n".join([*rows, "", note])


def _negative(values: dict[str, list[dict[str, Any]]]) -> str:
    merged = [one["eigenvalue"] < 0 for name, of in values.items() if name != "dense" for one in of]
    return f"{sum(merged)} of {len(merged)}"


def _eigenvalue(of: dict[str, Any]) -> float:
    return abs(of["eigenvalue"])  # under merging it may be negative: the loss falls on both sides


def _in_ball(of: dict[str, Any]) -> float:
    return of["rises"][-1]


def verdicts(result: dict[str, Any]) -> str:
    """The verdict of each claim, decided by the rules of ``compare``."""
    rows = [line("claim", [f"against {peer}" for peer in PEERS]), rule(len(PEERS))]
    for claim, label in CLAIMS.items():
        rows.append(line(label, [result["verdict"][peer][claim] for peer in PEERS]))
    return "\n".join(rows)


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and the lowest to the highest in brackets."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def factor(ratios: list[float]) -> str:
    """The geometric mean of ratios, and the lowest to the highest in brackets."""
    return f"{geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _answer(of: dict[str, list[float]]) -> str:
    accuracy, same, kl = (sum(of[k]) / len(of[k]) for k in ("accuracy", "same", "kl"))
    return f"{accuracy:.1f}, {same:.1f}, {kl:.4f}"


def _about(result: dict[str, Any]) -> str:
    return (
        f"{result['settings']['seeds']} seeds, {result['test_digits']} held-out digits; in "
        "brackets: lowest to highest of the seeds. Length: of all weights together. "
        f"{versions(result, 'torch', 'timm')}."
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "sharpness_trainings": trainings,
    "sharpness_answers": answers,
    "sharpness_less_lost": less_lost,
    "sharpness_rise": sharpness,
    "sharpness_photographs": photographs,
    "sharpness_verdicts": verdicts,
}
