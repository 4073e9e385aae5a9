"""Measures accuracy and speed of DeiT-T under several schedules, and what the merge rules cost.

    DSM_EXT_DATA=DIR python -m benchmarks.cpu.deit_tiny

DIR holds deit_tiny_patch16_224.safetensors and imagenet_samples/. The name of each picture starts
with the WordNet id of its class. Ours, timm eager and the reference take turns under each schedule.
Ours answers in int8 too, where the processor has it. "rules" in the result compares the speed of
equal counts under both rules and under the paper's rule. This takes about 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS
from dsm_ext import _C
from dsm_ext.cli.bench import calls_for
from dsm_ext.cli.model_arguments import timm_model
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.evaluate import Evaluation
from dsm_ext.images import Batches, find_images, label_images, transform_for
from dsm_ext.timing import time_in_turn
from dsm_ext.timm_models.from_timm import from_timm

NAME = "deit_tiny_patch16_224"
SCHEDULES = [
    "tome:r=8",
    "tome:r=13",
    "tome:r=16",
    "dfe:r=8,skip=2",
    "dfe:r=13,skip=2",
    "dfe:r=16,skip=2",
    "dsm:r=8",
    "dsm:r=12",
    "dsm:r=16",
    "dsm:r=16,skip=2,local=5",
    "dsm:r=16,skip=2,local=5,proportional=false",
    "tome:r=13,metric=keys+tokens,protect=0.3",
    "dsm:r=16,protect=0.3",
    "dsm:r=16,metric=keys+tokens,protect=0.3",
    "guided:1.7,metric=keys,protect=0",
    "guided:1.7,metric=keys",
    "guided:1.7,protect=0",
    "guided:1.2",
    "guided:1.4",
    "guided:1.7",
    "guided:2",
    "guided:2.5",
]
BATCHES = (1, 8)
RULE_MODELS = (NAME, "deit_small_patch16_224")
BOTH_RULES, PAPERS_RULE = "guided:1.7", "guided:1.7,metric=keys,protect=0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DSM_EXT_DATA"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, default=RESULTS / "deit_tiny.json")
    args = parser.parse_args()
    if args.data is None:
        parser.error("expected --data DIR or DSM_EXT_DATA")

    model = timm_model(NAME, args.data / f"{NAME}.safetensors")
    fast = from_timm(model, "dense")
    folder = args.data / "imagenet_samples"
    paths = find_images(folder)
    labels = torch.tensor(label_images(paths, folder, 1000))
    batches = [(images, labels[i]) for images, i in Batches(paths, transform_for(model), 20)]
    low = ["int8"] if _C.has_precision("int8") else []
    scores = Evaluation(fast, SCHEDULES, ["float32", *low]).run(batches)
    rows = [row for row in scores if row["precision"] == "float32"]
    for row in scores:
        if row["precision"] == "int8":
            of = next(r for r in rows if r["schedule"] == row["schedule"])
            of["int8"] = {name: row[name] for name in ("top1", "agreement", "kl")}

    pictures = torch.cat([images for images, _ in batches])
    for batch in BATCHES:
        calls = calls_for(model, ["dense", *SCHEDULES], ["timm", "reference"], pictures[:batch])
        rates = time_in_turn(calls, batch, args.rounds)
        for row in rows:
            row[f"batch_{batch}"] = {
                "dsm_ext": rates[f"dsm_ext {row['schedule']} float32"],
                "reference": rates[f"reference {row['schedule']} float32"],
                "timm": rates["timm dense float32"],
            }
    result = {"model": NAME, "dtype": "float32", "rows": rows, "rules": rules(args.rounds)}
    write_json(args.json, {**result, **environment()})


def rules(rounds: int) -> list[dict[str, Any]]:
    """images/s under both rules over images/s under the paper's rule, with equal counts."""
    found = []
    for name in RULE_MODELS:
        model = timm_model(name)
        for batch in BATCHES:
            images = torch.randn(batch, 3, 224, 224)
            calls = calls_for(model, [BOTH_RULES, PAPERS_RULE], [], images)
            rates = time_in_turn(calls, batch, 2 * rounds)
            both, papers = (
                rates[f"dsm_ext {schedule} float32"]["median"]
                for schedule in (BOTH_RULES, PAPERS_RULE)
            )
            found.append({"model": name, "batch": batch, "both": both, "papers": papers})
    return found


if __name__ == "__main__":
    main()
