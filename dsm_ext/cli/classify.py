"""``dsm-ext classify``: the five likeliest classes of each picture, dense beside merged."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsm_ext.cli import common
from dsm_ext.export import load, model_info
from dsm_ext.from_timm import from_timm
from dsm_ext.images import read_image, transform_for
from dsm_ext.model import VisionTransformer


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "classify", help="top five of pictures, dense beside merged", description=__doc__
    )
    common.add_model(parser, or_folder=True)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--schedule", help="default: the folder's, or dsm")
    common.add_run(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device, dtype = common.run_settings(args)
    model, transform, names = _classifier(args, device, dtype)
    merged = model.schedule
    title = args.schedule or "merged"
    failed = 0
    for path in args.images:
        try:
            image = _prepare(path, transform)[None].to(device, dtype)
        except (ValueError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
            failed += 1
            continue
        columns = []
        for schedule in ("dense", merged):
            model.schedule = schedule
            likely = model(image).float().softmax(1)[0].topk(min(5, len(names)))
            columns.append(
                [
                    f"{100 * p:5.1f} %  {names[i]}"
                    for p, i in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
                ]
            )
        width = max(len(cell) for cell in columns[0]) + 4
        print(f"{path}\n  {'dense'.ljust(width)}{title}")
        for dense, other in zip(*columns, strict=True):
            print(f"  {dense.ljust(width)}{other}")
    if failed:
        print(f"{failed} of {len(args.images)} pictures could not be used", file=sys.stderr)
    return 1 if failed else 0


def _prepare(path: str, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    """A picture as the model wants it; every fault names the file."""
    picture = read_image(path)
    try:
        return transform(picture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _classifier(
    args: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[VisionTransformer, Callable[[Image.Image], Tensor], list[str]]:
    """The model, what prepares its pictures, and the names of its classes."""
    if not Path(args.model).is_dir():
        timm_model = common.trained_classifier(args)
        model = from_timm(timm_model, args.schedule or "dsm", dtype=dtype, device=device)
        return model, transform_for(timm_model), common.classes(model)
    if args.weights or args.pretrained:
        raise ValueError("a folder has its own weights: drop --weights and --pretrained")
    model = load(args.model, args.schedule, dtype=dtype, device=device)
    if model.config.num_classes == 0:
        raise ValueError(f"{args.model} has no classifier: it gives features")
    info = model_info(args.model)
    modes = {1: "L", 3: "RGB"}
    channels = info.config.in_chans
    if channels not in modes:
        raise ValueError(f"{args.model} takes {channels} channels, pictures have 1 or 3")

    def transform(image: Image.Image) -> Tensor:
        pixels = np.array(image.convert(modes[channels]))
        return info.preprocessing(torch.from_numpy(pixels).view(*pixels.shape[:2], -1))

    return model, transform, info.labels or common.classes(model)
