"""``dsm-ext show``: pictures of which patches merge, and of what the model looks at."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from PIL import Image

from dsm_ext._native import Schedule
from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_folder
from dsm_ext.cli.prepared import PreparedPictures
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.model import VisionTransformer
from dsm_ext.pictures import attention_strip, enlarge, filmstrip, sheet, to_image, visualize

ROWS = 8  # in one sheet
SIDE, FRAME_SIDE = 448, 336  # approximate size of a picture in a sheet and in a filmstrip


def run(args: argparse.Namespace) -> int:
    device, dtype = run_settings(args)
    opened = open_model(args, dtype, device)
    model, pictures = opened.model, PreparedPictures(opened.transform())
    mean, std = opened.normalisation()
    schedules = opened.schedules
    heads = {name: _titles(model, schedule) for name, schedule in schedules.items()}
    check_output_folder(args.output, "--output")

    titles = ["input", *(f"{name} - {tokens} tokens" for name, (tokens, _) in heads.items())]
    names: set[str] = set()
    for start in range(0, len(args.images), ROWS):
        rows = []
        for path, image in pictures.prepare(args.images[start : start + ROWS]):
            name = _free(Path(path).stem, names)
            picture, images = image * std + mean, image[None].to(device, dtype)
            large, small = (enlarge(picture, model.config.grid, s) for s in (SIDE, FRAME_SIDE))
            row = [to_image(large)]
            for schedule, (_, blocks) in heads.items():
                model.schedule = schedules[schedule]
                kept = model.forward_intermediates(images, range(model.config.depth))
                sources = [block.source[0] for block in kept]
                location = model.trace(images).location[0] if args.locations else None
                row.append(visualize(large, sources[-1], model.config.grid, location=location))
                strip = filmstrip(small, sources, blocks, model.config.grid)
                _save(strip, args.output / f"{name}-{_plain(schedule)}.png")
                if args.attention:
                    looked_at = attention_strip(small, model.class_attention(images)[0])
                    _save(looked_at, args.output / f"{name}-{_plain(schedule)}-attention.png")
            rows.append(row)
        if rows:
            number = f"-{start // ROWS + 1}" if len(args.images) > ROWS else ""
            _save(sheet(rows, titles, max(rows[0][0].size)), args.output / f"sheet{number}.png")
    return pictures.status()


def _titles(model: VisionTransformer, schedule: Schedule | str) -> tuple[int, list[str]]:
    """The number of remaining tokens and a title for each block. Refuses a bad schedule."""
    model.schedule = schedule
    blocks = model.plan.blocks
    titles = [f"block {i}, {b.kind}, {b.tokens_out} tokens" for i, b in enumerate(blocks)]
    return blocks[-1].tokens_out, titles


def _free(name: str, taken: set[str]) -> str:
    """A name that is not yet in ``taken``, with a number if needed. Adds it to ``taken``."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _plain(schedule: str) -> str:
    """A schedule in a form that fits in a file name."""
    return re.sub(r"[^\w.=+-]+", "_", schedule)


def _save(image: Image.Image, path: Path) -> None:
    image.save(path)
    print(path)
