"""The table of results/predict.json: the command beside the model alone and the usual script."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.common import line, machine, rule, versions
from benchmarks.cpu.precision_tables import HEADLINE, OURS
from benchmarks.cpu.result import find

TITLES = ["images/s", "to the script", "to the model alone", "same answers (DeiT-T)"]


def predict(result: dict[str, Any], answers: dict[str, Any]) -> str:
    """Speed of each way to run, beside the answers that its schedule and precision keep.

    Args:
        result: predict.json.
        answers: precision.json, which has the answers of DeiT-T for each schedule and precision.
    """
    rates = {row["name"]: row["rates"] for row in result["rows"]}
    groups = answers["speed"]["groups"]
    judged = next(g for g in groups if (g["model"], g["batch"]) == HEADLINE)
    lines = [line(f"DeiT-S, batch {result['batch']}", TITLES), rule(len(TITLES))]

    def ratio(name: str, other: str) -> str:
        pairs = zip(rates[name], rates[other], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    for name, rate in rates.items():
        way, _, rest = name.partition(", ")
        if rest.startswith(("workers", "Ray")):
            more, _, rest = rest.partition(", ")
            way = f"{way}, {more}"
        schedule, _, precision = rest.partition(", ")
        alone, same = "-", "-"
        if precision:
            alone = ratio(name, f"model, {schedule}, {precision}")
            row = find(judged, OURS, schedule, precision)
            same = f"{row['answers']['agreement']:.1f} %" if row and "answers" in row else "-"
        title = {
            "script": "the usual script: timm, ImageFolder, DataLoader; float32",
            "model": "the model alone, on prepared pictures",
            "predict": "`predict`",
            "predict, workers": "`predict`, a model for each core",
            "predict, Ray": "`predict --ray local`, a model for each core",
        }[way]
        what = f": {schedule}, {precision}" if precision else ""
        cells = [f"{statistics.median(rate):.1f}", ratio(name, "script"), alone, same]
        lines.append(line(title + what, cells))
    pictures = result["pictures"]
    rounds = len(rates["script"])
    width, height = pictures["median_size"]
    notes = (
        f"{pictures['count']} files of {pictures['different']} JPEGs; in the middle {width} x "
        f"{height} pixels and {pictures['median_bytes'] / 1024:.0f} KiB; random weights; times "
        f"from the first rows to the last, without the start of processes; {machine(result)}; "
        f"{versions(result, 'torch', 'timm')}; "
        f"{'one round' if rounds == 1 else f'medians of {rounds} rounds'}. Same "
        "answers are those of DeiT-T on 500 photographs, compared with timm's in float32."
    )
    return "\n".join(lines) + "\n\n" + notes
