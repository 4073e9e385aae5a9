"""Draws the pictures whose answers change first while merging grows, and says why they may.

    python -m benchmarks.study.limits.gallery --images DIR --model NAME --weights F -o OUT.png
    python -m benchmarks.study.limits.gallery --of digits -o OUT.png
    python -m benchmarks.study.limits.gallery --of free --weights F -o OUT.png

The first form draws the user's own pictures, for the user alone: they may have no licence to be
shown. The other forms draw what docs/study.md shows: scikit-learn's digits, and the photographs
free of copyright that scikit-image contains, with DeiT-T.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from benchmarks.study.common.subject import NAME, add_arguments, open_subject
from benchmarks.study.limits.drawing import draw
from benchmarks.study.limits.failures import first_failures
from benchmarks.study.limits.network import Network, of_digits, of_subject
from benchmarks.study.limits.sweep import METHODS
from dsm_ext.cli.open_model import Opened, open_model
from dsm_ext.cli.output import check_output_picture

# Photographs in scikit-image's wheel whose authors gave up their copyright (CC0, public domain).
FREE = ("chelsea", "coffee", "rocket", "astronaut", "camera", "clock")

Names = Callable[[int], str]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.limits.gallery", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--of", choices=("digits", "free"), help="pictures that anyone may show")
    add_arguments(parser)
    parser.add_argument("--method", choices=METHODS, default="guided")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="pictures that are shown")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png")
    args = parser.parse_args()
    if args.rows < 1:
        parser.error(f"expected --rows to be positive, got {args.rows}")
    check_output_picture(args.output, "--output")
    network, names, (mean, std) = {
        "digits": _digits, "free": _free, None: _own
    }[args.of](args)  # fmt: skip
    failures = first_failures(network, args.method, args.rows)
    if not failures:
        print("no answer changes, however much is merged", file=sys.stderr)
        return 1
    shown = [network.images[failure.index] * std + mean for failure in failures]
    draw(network, failures, shown, names).save(args.output)
    print(args.output)
    return 0


Shown = tuple[Network, Names, tuple[torch.Tensor, torch.Tensor]]


def _digits(_: argparse.Namespace) -> Shown:
    half = torch.full((1, 1, 1), 0.5)
    return of_digits(), str, (half, half)


def _own(args: argparse.Namespace) -> Shown:
    subject = open_subject(args)
    if subject is None:
        raise SystemExit("give --images DIR --model NAME --weights F, or --of digits")
    return of_subject(subject), _class_names(subject.opened), subject.normalisation()


def _free(args: argparse.Namespace) -> Shown:
    data = os.environ.get("DSM_EXT_DATA")
    if args.weights is None and data and args.model == NAME:
        args.weights = str(Path(data) / f"{NAME}.safetensors")
    args.schedule = "dense"
    pictures = free_pictures()
    opened = open_model(args)
    opened.check_classifier()
    images = torch.stack([opened.transform()(picture) for picture in pictures])
    network = Network(args.model, opened.model, opened.timm_model(), images, None)
    return network, _class_names(opened), opened.normalisation()


def free_pictures() -> list[Image.Image]:
    """The photographs ``FREE``.

    Raises:
        SystemExit: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError:
        raise SystemExit(
            "the free photographs need scikit-image, which is not installed; run: "
            "pip install --group study"
        ) from None
    return [Image.fromarray(getattr(data, name)()) for name in FREE]


def _class_names(opened: Opened) -> Names:
    """The first of the names of a class, or its number."""
    names = opened.class_names()
    return str if names is None else lambda index: names[index].split(",")[0]


if __name__ == "__main__":
    sys.exit(main())
