"""The sheet of the gallery: input, groups before and after the answer changed, and the answers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.study.limits.failures import Failure
from benchmarks.study.limits.network import Network
from dsm_ext.pictures import enlarge, sheet, to_image, visualize

TILE = 236
TITLES = ["input; outlined: the evidence", "the last groups that keep the answer",
          "the first that lose it", "answers"]  # fmt: skip
ORANGE = (255, 140, 0)  # visible on black and on white
OUTSIDE = 0.45  # the brightness of patches without evidence


def draw(
    network: Network, failures: Sequence[Failure], images: Sequence[Tensor],
    names: Callable[[int], str],
) -> Image.Image:  # fmt: skip
    """A row for each failure.

    Args:
        images: [channels, height, width] in [0, 1], the failures' pictures.
        names: the name of a class.
    """
    grid = network.model.config.grid
    rows = []
    for failure, image in zip(failures, images, strict=True):
        large = enlarge(image.clamp(0, 1), grid, 2 * TILE).expand(3, -1, -1)
        before, after = (visualize(large, source, grid) for source in failure.groups)
        rows.append([outlined(to_image(large), failure.inside), before, after,
                     _text(failure, names)])  # fmt: skip
    return sheet(rows, TITLES, TILE)


def outlined(picture: Image.Image, inside: Tensor) -> Image.Image:
    """The picture with the object outlined and all else darker.

    Args:
        inside: [gh, gw] bool.
    """
    pixels = np.array(picture)
    height, width = pixels.shape[:2]
    gh, gw = inside.shape
    rows, columns = np.arange(height) * gh // height, np.arange(width) * gw // width
    mask = inside.numpy()[rows][:, columns]
    pixels[~mask] = (pixels[~mask] * OUTSIDE).astype(np.uint8)
    edge = np.zeros_like(mask)
    for axis in (0, 1):
        own, line = np.moveaxis(mask, axis, 0), np.moveaxis(edge, axis, 0)
        border = own[1:] != own[:-1]
        for shift in (0, 1):  # two pixels wide on both sides, which is two in the sheet
            line[shift : len(border) + shift] |= border
    pixels[edge] = ORANGE
    return Image.fromarray(pixels)


def _text(failure: Failure, names: Callable[[int], str]) -> Image.Image:
    """The answers, what the picture is like, and the reason, as a picture."""
    (dense, sure), (merged, merged_sure) = failure.answers
    parts = [
        f"{_kept(failure)}, lost at {failure.lost:g}x fewer multiply-adds",
        f"dense: {names(dense)}, {100 * sure:.0f} % (margin {100 * failure.margin:.0f} %)",
        f"merged: {names(merged)}, {100 * merged_sure:.0f} % "
        f"({names(dense)}: {100 * failure.dense_after:.0f} %)",
        f"evidence: {100 * failure.size:.0f} % of the patches; "
        f"{100 * failure.mixed:.0f} % of it merged with background",
        failure.reason(),
    ]
    canvas = Image.new("RGB", (2 * TILE, 2 * TILE), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=28)
    top = 4
    for i, part in enumerate(parts):
        # joined by a no-break space while lines are broken, so that none starts with %
        for line in textwrap.wrap(part.replace(" %", "\N{NO-BREAK SPACE}%"), 31):
            line = line.replace("\N{NO-BREAK SPACE}", " ")
            pen.text((6, top), line, fill="#a04000" if i == 4 else "black", font=font)
            top += 32
        top += 10
    return canvas


def _kept(failure: Failure) -> str:
    return "kept by dense alone" if failure.kept == 1 else f"kept at {failure.kept:g}x"
