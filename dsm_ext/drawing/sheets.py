"""Arranging drawn images with titles: tables and film strips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from dsm_ext.drawing.inputs import image_tensor
from dsm_ext.drawing.paint import to_image, visualize
from dsm_ext.images import to_rgb

GAP, HEAD = 12, 40  # pixels between pictures, and of a line of titles


def sheet(rows: list[list[Image.Image]], titles: list[str], tile: int = 224) -> Image.Image:
    """Arrange images in a table, a column for each title. Their longer sides are ``tile`` pixels.

    Raises:
        TypeError: an entry is not a PIL image.
        ValueError: an image has no pixels, or ``tile`` is not positive.
    """
    if tile < 1:
        raise ValueError(f"dsm_ext.sheet: expected tile to be positive, got {tile}")
    fitted = [[_fit(image, tile) for image in images] for images in rows]
    cell = (
        max((image.width for images in fitted for image in images), default=tile),
        max((image.height for images in fitted for image in images), default=tile),
    )
    return _arrange(fitted or [[]], [titles], cell)


def filmstrip(
    image: Tensor | Image.Image,
    sources: Sequence[Tensor],
    titles: Sequence[str],
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] | None = None,
    columns: int = 7,
) -> Image.Image:
    """Draw an image, then its tokens frame by frame, each frame with its title.

    Args:
        image: as for ``visualize``.
        sources: a source [gh * gw] for each frame, for example after each block.
        titles: a title for each source.
        grid, outline: as for ``visualize``.
        columns: the maximum number of frames in a row. Rows are filled evenly.

    Raises:
        ValueError: the shapes or counts do not fit each other.
        TypeError: as for ``visualize``.
    """
    image = image_tensor("filmstrip", image)
    if len(titles) != len(sources) or columns < 1:
        raise ValueError(
            f"dsm_ext.filmstrip: expected a title for each of {len(sources)} sources and "
            f"columns to be positive, got {len(titles)} titles and {columns}"
        )
    frames = [to_image(image), *(visualize(image, source, grid, outline) for source in sources)]
    return strip(frames, ["input", *titles], columns)


def strip(frames: list[Image.Image], names: list[str], columns: int) -> Image.Image:
    """Arrange frames of one size, each with its name, in rows that are filled evenly.

    Args:
        columns: the maximum number of frames in a row.
    """
    columns = math.ceil(len(frames) / math.ceil(len(frames) / columns))
    starts = range(0, len(frames), columns)
    return _arrange(
        [frames[i : i + columns] for i in starts],
        [names[i : i + columns] for i in starts],
        frames[0].size,
    )


def _fit(image: Image.Image, tile: int) -> Image.Image:
    image = to_rgb(image)
    scale = tile / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return image.resize(size, smooth)


def _arrange(
    rows: list[list[Image.Image]], titles: list[list[str]], cell: tuple[int, int]
) -> Image.Image:
    """Put images in cells (width, height), with titles above the first ``len(titles)`` rows."""
    from PIL import ImageDraw

    width, height = cell
    columns = max(len(line) for line in titles)
    size = (
        GAP + columns * (width + GAP),
        len(titles) * HEAD + sum(height + GAP for images in rows if images),
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for line, images in enumerate(rows):
        lefts = range(GAP, size[0], width + GAP)
        if line < len(titles):
            for left, title in zip(lefts, titles[line], strict=False):
                place = (left + width // 2, top + HEAD // 2)
                draw.text(place, title, fill="black", font=_font(title, width), anchor="mm")
            top += HEAD
        for left, image in zip(lefts, images, strict=False):
            canvas.paste(image, (left, top))
        top += height + GAP
    return canvas


def _font(text: str, width: int) -> Any:
    """The largest font, up to 18 pixels, in which a title is not wider than its column."""
    from PIL import ImageFont

    for size in range(18, 8, -1):
        font = ImageFont.load_default(size=size)
        if font.getlength(text) <= width:
            break
    return font
