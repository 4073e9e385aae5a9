"""``dsm-ext eval``: accuracy of schedules and precisions on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_file, table, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.environment import environment
from dsm_ext.evaluate import Evaluation
from dsm_ext.images import Batches, find_images, label_images


def run(args: argparse.Namespace) -> None:
    device, dtype = run_settings(args)
    if args.batch < 1:
        raise ValueError(f"expected --batch to be positive, got {args.batch}")
    check_output_file(args.json, "--json")
    paths = find_images(args.images)
    opened = open_model(args, dtype, device)
    opened.check_classifier()
    count = opened.model.config.num_classes
    names, descriptions = opened.label_names(), opened.class_names()
    labels = torch.tensor(label_images(paths, args.images, count, names, descriptions))
    merged = {name: s for name, s in opened.schedules.items() if name != "dense"}
    evaluation = Evaluation(opened.model, merged, opened.precisions)
    batches = Batches(paths, opened.transform(), args.batch)

    def labelled() -> Iterator[tuple[Tensor, Tensor]]:
        with tqdm(total=len(paths), unit="picture", disable=not sys.stderr.isatty()) as bar:
            for images, positions in batches:
                yield images, labels[positions]
                bar.update(len(positions))

    rows = evaluation.run(labelled())
    if rows[0]["pictures"] == 0:
        raise ValueError(f"none of the {len(paths)} pictures in {args.images} could be decoded")
    print(f"{args.model}, {rows[0]['pictures']} pictures, {len(batches.skipped)} skipped")
    print(
        table(
            ["schedule", "precision", "top-1 %", "top-5 %", "as dense %", "KL to dense", "GMACs"],
            [
                [
                    row["schedule"],
                    row["precision"],
                    f"{row['top1']:.1f}",
                    f"{row['top5']:.1f}",
                    f"{row['agreement']:.1f}",
                    f"{row['kl']:.4f}",
                    f"{row['gmacs']:.3f}",
                ]
                for row in rows
            ],
        )
    )
    write_json(
        args.json,
        {
            "model": args.model,
            "dtype": args.dtype,
            "skipped": len(batches.skipped),
            "rows": rows,
            **environment(),
        },
    )
