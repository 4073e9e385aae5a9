"""How sharp the loss of the study's own model is on photographs, without merging and with it.

This model is not trained anew. So it tells whether merging sharpens the loss at all, and not what
SAM would change.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from benchmarks.study.common.errors import answers
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.methods import methods
from benchmarks.study.common.subject import Subject
from benchmarks.study.sharpness.settings import SHARPNESS, Settings
from benchmarks.study.sharpness.worker import sharpness
from dsm_ext import Schedule

SPEEDUP = 1.7
GROUPS, PICTURES = 3, 12  # groups of other pictures, each with a loss of its own, show the spread


def measure_photographs(subject: Subject, kept: Kept) -> dict[str, Any]:
    """The loss, the largest eigenvalue and the rises of each method, for each group of pictures.

    The loss is the cross-entropy of the pictures' classes; where these are unknown, of the dense
    model's answers.
    """
    labels = subject.labels
    if labels is None:
        labels = answers(subject.model, "dense", subject.images).argmax(1)
    config = subject.model.config
    found = methods(config, SPEEDUP)
    schedules = {"dense": Schedule.dense(config.depth)}
    schedules |= {f"{name} {SPEEDUP}x": found[name] for name in SHARPNESS if name in found}
    groups = min(GROUPS, len(labels))
    settings = Settings(part=4)  # the double derivative of twelve pictures needs several GB
    values: dict[str, list[dict[str, Any]]] = {name: [] for name in schedules}
    runs = [(group, name) for group in range(groups) for name in schedules]
    for group, name in tqdm(runs, unit="loss", desc="photographs"):
        index = torch.arange(group, len(labels), groups)
        index = index[torch.arange(min(PICTURES, len(index))) * len(index) // PICTURES]
        probes = subject.images[index], labels[index]
        values[name].append(
            kept.get(
                f"group {group} of {groups}, {len(index)} pictures, {schedules[name].text()}",
                lambda schedule=schedules[name], probes=probes: sharpness(
                    subject.source, schedule, probes, settings, F.cross_entropy
                ),
            )
        )
    return {"model": subject.name, "pictures": min(PICTURES, len(labels)), "values": values}
