"""``dsm-ext eval``: accuracy of schedules and precisions on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_file, table, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.drawing import chart
from dsm_ext.environment import environment, threads_text
from dsm_ext.evaluate import Evaluation
from dsm_ext.images import Batches, find_images, label_images
from dsm_ext.timing import synchronized, time_in_turn


def run(args: argparse.Namespace) -> None:
    device, dtype = run_settings(args)
    if args.batch < 1:
        raise ValueError(f"expected --batch to be positive, got {args.batch}")
    check_output_file(args.json, "--json")
    if args.chart is not None:
        chart.check(args.chart, "--chart")
        check_output_file(args.chart, "--chart")
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
    if args.chart is not None:
        _draw(args, evaluation, rows, next(iter(batches))[0].to(device, dtype))
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


def _draw(
    args: argparse.Namespace, evaluation: Evaluation, rows: list[dict[str, Any]], images: Tensor
) -> None:
    """Measure the time of every row in turn, note it in the row, and draw the chart."""

    def call(row: dict[str, Any]) -> Callable[[], Any]:
        model = evaluation.models[row["precision"]]

        def run() -> None:
            model.schedule = evaluation.named[row["schedule"]]
            model(images)

        return synchronized(run, images.device)

    calls = {f"{row['schedule']} {row['precision']}": call(row) for row in rows}
    rates = time_in_turn(calls, len(images), rounds=5)
    points = {}
    for row in rows:
        name = f"{row['schedule']} {row['precision']}"
        row["images_per_second"] = rates[name]
        builder, _, arguments = row["schedule"].partition(":")
        points[name] = chart.Point(
            builder,
            arguments or builder,
            1e3 / rates[name]["median"],
            row["kl"],
            row["agreement"],
            variant=row["precision"],
        )
    chart.draw(
        list(points.values()),
        args.chart,
        f"{args.model}, {rows[0]['pictures']} pictures, {threads_text()}",
        f"milliseconds a picture, in batches of {len(images)}",
        "KL",
    )
