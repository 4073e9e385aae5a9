"""Measures accuracy and speed of DeiT-T under several schedules.

    DSM_EXT_DATA=DIR python -m benchmarks.cpu.deit_tiny

DIR holds deit_tiny_patch16_224.safetensors and imagenet_samples/. The name of each picture starts
with the WordNet id of its class. Ours, timm eager and the reference take turns under each schedule.
This takes about 4 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.common import RESULTS
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
]
BATCHES = (1, 8)


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
    rows = Evaluation(fast, SCHEDULES).run(batches)

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
    write_json(args.json, {"model": NAME, "dtype": "float32", "rows": rows, **environment()})


if __name__ == "__main__":
    main()
