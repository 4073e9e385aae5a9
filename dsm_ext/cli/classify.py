"""``dsm-ext classify``: the five likeliest classes of each picture, dense beside merged."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dsm_ext.cli import common
from dsm_ext.from_timm import from_timm
from dsm_ext.images import read_image, transform_for


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "classify", help="top five of pictures, dense beside merged", description=__doc__
    )
    common.add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--schedule", default="dsm", help="default: %(default)s")
    common.add_run(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device, dtype = common.run_settings(args)
    timm_model = common.trained_classifier(args)
    transform = transform_for(timm_model)
    model = from_timm(timm_model, args.schedule, dtype=dtype, device=device)
    names = common.classes(model)
    failed = 0
    for path in args.images:
        try:
            image = transform(read_image(path))[None].to(device, dtype)
        except (ValueError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
            failed += 1
            continue
        columns = []
        for schedule in ("dense", args.schedule):
            model.schedule = schedule
            likely = model(image).float().softmax(1)[0].topk(min(5, len(names)))
            columns.append(
                [
                    f"{100 * p:5.1f} %  {names[i]}"
                    for p, i in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
                ]
            )
        width = max(len(cell) for cell in columns[0]) + 4
        print(f"{path}\n  {'dense'.ljust(width)}{args.schedule}")
        for dense, merged in zip(*columns, strict=True):
            print(f"  {dense.ljust(width)}{merged}")
    if failed:
        print(f"{failed} of {len(args.images)} pictures could not be decoded", file=sys.stderr)
    return 1 if failed else 0
