"""Tables of results/study/shift.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import line, rule, versions
from benchmarks.study.common.words import difference, interval, ratio

Result = dict[str, Any]

HEADS = ("clean", "severity 1", "severity 3", "severity 5")


def shift_answers(result: Result) -> str:
    """Same answers and KL of each method by severity, and top-1."""
    rows = result["severities"]
    lines = [line("method", HEADS), rule(len(HEADS))]
    for name in rows["0"]:
        if name == "dense":
            continue
        lines.append(
            line(
                name,
                [
                    f"{interval(of[name]['same'], 1)} %, {of[name]['kl']['mean']:.4f}"
                    for of in rows.values()
                ],
            )
        )
    sure = [f"{100 * of['mean']:.0f} %" for of in result["confidence"].values()]
    lines.append(line("the dense model's own probability of its answer", sure))
    if "top1" in rows["0"]["dense"]:
        for name in ("dense", "ToMe", "DFE", "DSM", "guided"):
            if name in rows["0"]:
                cells = [f"{of[name]['top1']['mean']:.1f} %" for of in rows.values()]
                lines.append(line(f"top-1, {name}", cells))
    note = (
        "Each cell: same answers as the dense model on the same picture, with their 95 % interval "
        "over pictures, then the KL to it. *int8* is the dense model in int8, *noise* the dense "
        "logits with noise that has ToMe's KL on clean pictures. " + _about(result)
    )
    return "\n".join(lines) + "\n\n" + note


def shift_lost(result: Result) -> str:
    """Points of same answers that the corruptions cost, and how many more than a control loses."""
    levels = list(result["lost"])
    controls = [name for name in ("int8", "noise") if name in result["lost"][levels[0]]]
    heads = [f"severity {level}" for level in levels]
    heads += [f"more than {name}, severity {levels[-1]}" for name in controls]
    heads += [f"growth of the KL, severity {levels[-1]}", "over int8's", "growth of the change"]
    lines = [line("method", heads), rule(len(heads))]
    for name in result["lost"][levels[0]]:
        cells = [interval(result["lost"][level][name]["points"], 1) for level in levels]
        more = result["lost"][levels[-1]][name]["more_than"]
        cells += [difference(more[of]) if of in more else "" for of in controls]
        growth = result["growth"][levels[-1]][name]
        cells.append(ratio(growth["kl"]))
        cells.append(ratio(growth["kl_over"]["int8"]) if "int8" in growth["kl_over"] else "")
        cells.append(ratio(growth["change"]) if name != "noise" else "1, by design")
        lines.append(line(name, cells))
    note = (
        "Points of *same answers* lost beside those lost on clean pictures. *Growth*: a mean "
        "divided by that on clean pictures. The *change* is how far the logits are from the dense "
        "ones: the standard deviation over the classes of their difference. The noise has ToMe's "
        "KL on clean pictures, so only ToMe is compared with it."
    )
    return "\n".join(lines) + "\n\n" + note


def shift_gain(result: Result) -> str:
    """KL of ToMe over that of the others, by severity."""
    rows = result["gain"]
    lines = [line("KL of ToMe over that of", HEADS), rule(len(HEADS))]
    for name in rows["0"]:
        lines.append(line(name, [ratio(of[name]["ratio"]) for of in rows.values()]))
        cells = ["1", *(ratio(rows[at][name]["to_clean"]) for at in list(rows)[1:])]
        lines.append(line(f"{name}, over that on clean pictures", cells))
        cells = ["", "1", *(ratio(rows[at][name]["to_mildest"]) for at in list(rows)[2:])]
        lines.append(line(f"{name}, over that at severity {list(rows)[1]}", cells))
    return "\n".join(lines) + "\n\nMeans over the corruptions, with 95 % intervals over pictures."


def shift_kinds(result: Result) -> str:
    """What each kind of corruption does at the highest severity, and how alike patches are."""
    worst = str(max(int(level) for level in result["lost"]))
    methods = list(next(iter(result["kinds"].values()))[worst]["kl"])
    heads = [*(f"KL, {name}" for name in methods), "ToMe over DFE", "pairs", "strangers"]
    lines = [line(f"severity {worst}", heads), rule(len(heads))]
    clean = result["clean"]
    cells = [f"{clean[name]['kl']:.4f}" for name in methods]
    cells += [ratio(clean["gain"]), *_cosines(clean["likeness"])]
    lines.append(line("clean", cells))
    for kind, levels in result["kinds"].items():
        of = levels[worst]
        cells = [f"{of['kl'][name]['mean']:.4f}" for name in methods]
        cells += [ratio(of["gain"]["DFE"]), *_cosines(of["likeness"])]
        lines.append(line(kind, cells))
    about = result["likeness"]
    note = (
        f"*Pairs*: mean cosine of the keys of {about['pairs']} merged pairs of block "
        f"{about['block']} where nothing merges before it; *strangers*: of all patches; "
        f"{about['pictures']} pictures."
    )
    return "\n".join(lines) + "\n\n" + note


def _cosines(likeness: dict[str, float]) -> list[str]:
    return [f"{likeness[name]:.3f}" for name in ("pairs", "strangers")]


def _about(result: Result) -> str:
    return (
        f"{result['model']}, {result['corrupted']} photographs, {result['speedup']} times fewer "
        f"multiply-adds; {result['package']}, {versions(result, 'torch', 'timm')}."
    )


TABLES: dict[str, Callable[[Result], str]] = {
    "shift_answers": shift_answers,
    "shift_lost": shift_lost,
    "shift_gain": shift_gain,
    "shift_kinds": shift_kinds,
}
