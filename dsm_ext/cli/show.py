"""``dsm-ext show``: pictures of which patches merge, at the end and block by block.

Writes sheet.png, a row for each picture: the input, then the groups that each schedule ends with
(sheet-1.png and so on where there are more than eight pictures); and, for each picture and
schedule, PICTURE-SCHEDULE.png: the input, then the groups behind each block.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dsm_ext.cli import common
from dsm_ext.from_timm import from_timm
from dsm_ext.images import read_image, transform_for
from dsm_ext.model import VisionTransformer
from dsm_ext.pictures import enlarge, filmstrip, sheet, to_image, visualize

ROWS = 8  # of a sheet
SIDE, FRAME_SIDE = 448, 336  # of a picture in a sheet and in a filmstrip, about


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "show",
        help="pictures of which patches merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common.add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument(
        "--schedule",
        type=common.schedules,
        default=["dsm"],
        help='one or several, such as "dsm tome:r=13"; default: dsm',
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="made if need be"
    )
    common.add_run(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device, dtype = common.run_settings(args)
    timm_model = common.trained_model(args)
    transform = transform_for(timm_model)
    mean, std = _normalisation(timm_model)
    model = from_timm(timm_model, "dense", dtype=dtype, device=device)
    heads = {schedule: _titles(model, schedule) for schedule in args.schedule}
    args.output.mkdir(parents=True, exist_ok=True)

    titles = ["input", *(f"{name} - {tokens} tokens" for name, (tokens, _) in heads.items())]
    names: set[str] = set()
    failed = 0
    for start in range(0, len(args.images), ROWS):
        rows = []
        for path in args.images[start : start + ROWS]:
            try:
                image = transform(read_image(path))
            except (ValueError, OSError) as error:
                print(f"skipped: {error}", file=sys.stderr)
                failed += 1
                continue
            name = _free(Path(path).stem, names)
            picture, images = image * std + mean, image[None].to(device, dtype)
            large, small = (enlarge(picture, model.config.grid, s) for s in (SIDE, FRAME_SIDE))
            row = [to_image(large)]
            for schedule, (_, blocks) in heads.items():
                model.schedule = schedule
                kept = model.forward_intermediates(images, range(model.config.depth))
                sources = [block.source[0] for block in kept]
                row.append(visualize(large, sources[-1], model.config.grid))
                strip = filmstrip(small, sources, blocks, model.config.grid)
                _save(strip, args.output / f"{name}-{_plain(schedule)}.png")
            rows.append(row)
        if rows:
            number = f"-{start // ROWS + 1}" if len(args.images) > ROWS else ""
            _save(sheet(rows, titles, max(rows[0][0].size)), args.output / f"sheet{number}.png")
    if failed:
        print(f"{failed} of {len(args.images)} pictures could not be used", file=sys.stderr)
    return 1 if failed else 0


def _normalisation(timm_model: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation [channels, 1, 1] that the preprocessing takes out."""
    from timm.data import resolve_data_config

    config = resolve_data_config({}, model=timm_model)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    return mean, std


def _titles(model: VisionTransformer, schedule: str) -> tuple[int, list[str]]:
    """Tokens that a schedule leaves, and a title for each block; refuses what does not fit."""
    model.schedule = schedule
    blocks = model.plan.blocks
    titles = [f"block {i}, {b.kind}, {b.tokens_out} tokens" for i, b in enumerate(blocks)]
    return blocks[-1].tokens_out, titles


def _free(name: str, taken: set[str]) -> str:
    """A name that no earlier picture has, numbered if need be; it is taken then."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _plain(schedule: str) -> str:
    """A schedule as a part of a file name."""
    return re.sub(r"[^\w.=+-]+", "_", schedule)


def _save(image: Image.Image, path: Path) -> None:
    image.save(path)
    print(path)
