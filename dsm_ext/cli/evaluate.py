"""``dsm-ext eval``: accuracy of schedules on labelled pictures, beside the dense model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dsm_ext.cli import common
from dsm_ext.evaluate import Evaluation
from dsm_ext.from_timm import from_timm
from dsm_ext.images import Batches, find_images, label_images, transform_for
from dsm_ext.measure import environment


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "eval", help="accuracy of schedules on labelled pictures", description=__doc__
    )
    common.add_model(parser)
    parser.add_argument(
        "--images",
        metavar="DIR",
        required=True,
        help="a folder for each class, or file names that start with a WordNet id",
    )
    parser.add_argument(
        "--schedule",
        type=common.schedules,
        default=["dsm"],
        help='one or several, such as "dsm tome:r=13"; default: dsm',
    )
    parser.add_argument("--batch", type=int, default=16, help="default: %(default)s")
    common.add_run(parser)
    common.add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    device, dtype = common.run_settings(args)
    if args.batch < 1:
        raise ValueError(f"expected --batch to be positive, got {args.batch}")
    paths = find_images(args.images)
    timm_model = common.trained_classifier(args)
    labels = torch.tensor(label_images(paths, args.images, timm_model.num_classes))
    model = from_timm(timm_model, "dense", dtype=dtype, device=device)
    evaluation = Evaluation(model, [s for s in args.schedule if s != "dense"])
    batches = Batches(paths, transform_for(timm_model), args.batch)

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
        common.table(
            ["schedule", "top-1 %", "top-5 %", "as dense %", "KL to dense", "GMACs"],
            [
                [
                    row["schedule"],
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
    common.write_json(
        args.json,
        {
            "model": args.model,
            "dtype": args.dtype,
            "skipped": len(batches.skipped),
            "rows": rows,
            **environment(),
        },
    )
