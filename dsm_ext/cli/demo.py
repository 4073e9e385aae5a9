"""``dsm-ext demo``: compare dense, ToMe, DFE and DSM on handwritten digits.

It needs no network and no arguments. The package contains the model, a small ViT that this project
trained on scikit-learn's digits. The figures are from digits that were not used for training.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from dsm_ext import digits
from dsm_ext.cli.bench import calls_for
from dsm_ext.cli.output import check_output_picture, table
from dsm_ext.evaluate import Evaluation
from dsm_ext.pictures import sheet, to_image, visualize
from dsm_ext.timing import time_in_turn
from dsm_ext.timm_models.from_timm import from_timm

METHODS = {
    "ToMe": "tome:r=13",
    "DFE": "dfe:r=16,skip=2",
    "DSM": "dsm:r=16,skip=1,local=6,window=7",
}
BATCH = 60
PICTURED = (3, 8, 12, 17)  # indices among the held-out digits
PICTURE_SIZE = 224
ORANGE = (255, 140, 0)  # visible on black and on white

NEXT = "With your own pictures: dsm-ext classify deit_small_patch16_224 --pretrained PICTURE..."


def run(args: argparse.Namespace) -> None:
    if args.rounds < 1:
        raise ValueError(f"expected --rounds to be positive, got {args.rounds}")
    check_output_picture(args.output, "--output")
    images, labels = digits.load_digits("test")
    timm_model = digits.create_model()
    model = from_timm(timm_model, "dense")

    schedules = list(METHODS.values())
    batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    scores = Evaluation(model, schedules).run(batches)
    calls = calls_for(timm_model, ["dense", *schedules], ["timm"], images[:BATCH])
    rates = time_in_turn(calls, BATCH, args.rounds)

    with torch.inference_mode():
        answers = torch.cat([timm_model(batch).argmax(1) for batch in images.split(BATCH)])
    timm_top1 = 100 * (answers == labels).float().mean().item()

    names = {"dense": "dense", **{schedule: name for name, schedule in METHODS.items()}}
    base = rates["timm dense float32"]["median"]
    gmacs = model.plan.multiply_adds_dense / 1e9
    rows = [["timm, dense", f"{timm_top1:.1f}", f"{gmacs:.3f}", f"{base:.0f}", "1.00", ""]]
    for score in scores:
        rate = rates[f"dsm_ext {score['schedule']} float32"]["median"]
        rows.append(
            [
                f"dsm_ext, {names[score['schedule']]}",
                f"{score['top1']:.1f}",
                f"{score['gmacs']:.3f}",
                f"{rate:.0f}",
                f"{rate / base:.2f}",
                score["schedule"],
            ]
        )
    print(f"{len(labels)} held-out digits, batch {BATCH}, {torch.get_num_threads()} threads")
    print(table(["", "top-1 %", "GMACs", "images/s", "to timm", "schedule"], rows))

    pictures = []
    for i in PICTURED:
        picture = F.interpolate((images[i : i + 1] + 1) / 2, size=PICTURE_SIZE, mode="nearest")[0]
        line = [to_image(picture)]
        for name in ("ToMe", "DSM"):
            model.schedule = METHODS[name]
            source = model.trace(images[i : i + 1]).source[0]
            line.append(visualize(picture, source, outline=ORANGE))
        pictures.append(line)
    sheet(pictures, ["input", "ToMe", "DSM"]).save(args.output)
    print(f"\nWhat merged: {args.output}\n{NEXT}")
