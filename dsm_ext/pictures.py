"""Pictures of what merged: each group in its mean colour, with outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LIGHT = 0.72  # luma from which black is drawn on it: well above middle grey, where white shows too,
# so that most pictures are outlined in one colour
GAP, HEAD = 12, 40  # pixels between pictures, and for a line of titles


def visualize(
    image: Tensor,
    source: Tensor,
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Paint each group of merged patches in its mean colour and outline it.

    Args:
        image: [3 or 1, height, width] in [0, 1], before any normalisation.
        source: [gh * gw], one image's row of ``trace``'s source map.
        grid: rows and columns of patches; None takes a square one.
        outline: colour between groups, a pixel wide; None takes black between light groups and
            white between others, which shows on every picture, two pixels wide where patches have
            16 or more. A small image wants to be enlarged first (``enlarge``).

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"dsm_ext.visualize: expected image to be [3 or 1, height, width], got "
            f"{list(image.shape)}"
        )
    gh, gw = grid or (round(len(source) ** 0.5),) * 2
    _, height, width = image.shape
    if source.shape != (gh * gw,) or height < gh or width < gw:
        raise ValueError(
            f"dsm_ext.visualize: expected source to be [{gh * gw}] and image at least {gh} x {gw}, "
            f"got {list(source.shape)} and {height} x {width}"
        )
    rows, columns = np.arange(height) * gh // height, np.arange(width) * gw // width
    groups = source.cpu().numpy().reshape(gh, gw)[rows][:, columns]  # [height, width]
    pixels = _pixels(image)

    _, index = np.unique(groups, return_inverse=True)
    index = index.reshape(groups.shape)
    count = np.bincount(index.ravel())
    mean = np.stack(
        [np.bincount(index.ravel(), pixels[..., c].ravel()) / count for c in range(3)], axis=-1
    )
    painted = _bytes(mean[index])
    if outline is None:
        luma = mean @ np.array([0.299, 0.587, 0.114])
        _outline(painted, groups, luma[index], wide=min(height // gh, width // gw) >= 16)
    else:
        painted[_edges(groups)] = outline
    return Image.fromarray(painted)


def enlarge(image: Tensor, grid: tuple[int, int], side: int = 448) -> Tensor:
    """An image in [0, 1] resized, smoothly, so that all patches have the same whole size.

    Args:
        image: [channels, height, width].
        grid: rows and columns of patches.
        side: about what the longer side becomes; patches never get smaller than 8 pixels.

    Returns:
        [channels, gh * patch height, gw * patch width], in [0, 1].
    """
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    gh, gw = grid
    size = (gh * max(8, round(height * scale / gh)), gw * max(8, round(width * scale / gw)))
    resized = F.interpolate(image[None].float(), size=size, mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


def to_image(image: Tensor) -> Image.Image:
    """[3 or 1, height, width] in [0, 1] as a picture."""
    return Image.fromarray(_bytes(_pixels(image)))


def _pixels(image: Tensor) -> np.ndarray:
    return image.float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy().clip(0, 1)


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


def _edges(groups: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour belongs to another group."""
    edge = np.zeros(groups.shape, dtype=bool)
    edge[:, :-1] |= groups[:, :-1] != groups[:, 1:]
    edge[:-1] |= groups[:-1] != groups[1:]
    return edge


def _outline(painted: np.ndarray, groups: np.ndarray, luma: np.ndarray, wide: bool) -> None:
    """Draw between groups in black or white, by the mean luma of both; wide: on either side."""
    for axis in (0, 1):
        pixels, group, light = (np.moveaxis(a, axis, 0) for a in (painted, groups, luma))
        edge = group[:-1] != group[1:]
        color = np.where(light[:-1] + light[1:] > 2 * LIGHT, 0, 255)[edge][:, None]
        pixels[:-1][edge] = color
        if wide:
            pixels[1:][edge] = color


def sheet(rows: list[list[Image.Image]], titles: list[str], tile: int = 224) -> Image.Image:
    """Images side by side, a column for each title, their longer sides ``tile`` pixels."""
    fitted = [[_fit(image, tile) for image in images] for images in rows]
    cell = (
        max((image.width for images in fitted for image in images), default=tile),
        max((image.height for images in fitted for image in images), default=tile),
    )
    return _arrange(fitted or [[]], [titles], cell)


def filmstrip(
    image: Tensor,
    sources: Sequence[Tensor],
    titles: Sequence[str],
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] | None = None,
    columns: int = 7,
) -> Image.Image:
    """An image and how its patches are grouped, one frame after the other, each with its title.

    Args:
        image: [3 or 1, height, width] in [0, 1], before any normalisation.
        sources: a source map [gh * gw] for each frame, such as those behind each block.
        titles: one for each source map.
        grid, outline: as for ``visualize``.
        columns: at most so many frames in a row; rows are filled evenly.

    Raises:
        ValueError: the shapes or counts do not fit each other.
    """
    if len(titles) != len(sources) or columns < 1:
        raise ValueError(
            f"dsm_ext.filmstrip: expected a title for each of {len(sources)} source maps and "
            f"columns to be positive, got {len(titles)} titles and {columns}"
        )
    frames = [to_image(image), *(visualize(image, source, grid, outline) for source in sources)]
    names = ["input", *titles]
    columns = math.ceil(len(frames) / math.ceil(len(frames) / columns))
    starts = range(0, len(frames), columns)
    return _arrange(
        [frames[i : i + columns] for i in starts],
        [names[i : i + columns] for i in starts],
        frames[0].size,
    )


def _fit(image: Image.Image, tile: int) -> Image.Image:
    scale = tile / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return image.convert("RGB").resize(size, smooth)


def _arrange(
    rows: list[list[Image.Image]], titles: list[list[str]], cell: tuple[int, int]
) -> Image.Image:
    """Images in cells (width, height), with titles above the first ``len(titles)`` rows."""
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
    """The largest font, of 18 pixels at most, in which a title is no wider than its column."""
    from PIL import ImageFont

    for size in range(18, 8, -1):
        font = ImageFont.load_default(size=size)
        if font.getlength(text) <= width:
            break
    return font
