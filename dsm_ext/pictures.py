"""Drawing which patches merged: each group in its mean colour, with outlines."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsm_ext.images import to_rgb

# Groups lighter than this luma get a black outline. It is well above middle grey, on which white is
# visible too, so that most pictures have outlines of one colour.
LIGHT = 0.72
GAP, HEAD = 12, 40  # pixels between pictures, and of a line of titles


def visualize(
    image: Tensor | Image.Image,
    source: Tensor,
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Paint each group of merged patches in its mean colour and outline it.

    Args:
        image: [3 or 1, height, width] of floats in [0, 1], before normalisation; or a PIL image,
            which ``dsm_ext.images.to_rgb`` converts.
        source: [gh * gw], one row of ``trace``'s ``source``.
        grid: rows and columns of patches. None takes the grid in which patches are square.
        outline: the colour between groups, one pixel wide. None draws black between light groups
            and white between others. This is visible on every picture, and is two pixels wide if
            patches have 16 pixels or more. Enlarge small images first (``enlarge``).

    Raises:
        ValueError: the shapes do not fit each other; or no grid is given and no grid of square
            patches fits.
        TypeError: ``image`` or ``source`` has another type.
    """
    image = _image("visualize", image)
    if not isinstance(source, Tensor):
        raise TypeError(
            f"dsm_ext.visualize: expected source to be a tensor, got {type(source).__name__}"
        )
    _, height, width = image.shape
    gh, gw = _grid("visualize", grid) if grid is not None else _square(source, height, width)
    if source.shape != (gh * gw,) or height < gh or width < gw:
        raise ValueError(
            f"dsm_ext.visualize: expected source to be [{gh * gw}] and image at least {gh} x {gw}, "
            f"got {list(source.shape)} and {height} x {width}"
        )
    if outline is not None and (
        len(outline) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in outline)
    ):
        raise ValueError(
            f"dsm_ext.visualize: expected outline to be three numbers in [0, 255], got {outline}"
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


def enlarge(image: Tensor | Image.Image, grid: tuple[int, int], side: int = 448) -> Tensor:
    """Resize an image smoothly so that all patches have the same size in whole pixels.

    Args:
        image: [channels, height, width] of floats in [0, 1], or a PIL image.
        grid: rows and columns of patches.
        side: the approximate length of the longer side. A patch has at least 8 x 8 pixels.

    Returns:
        [channels, gh * patch height, gw * patch width], in [0, 1].

    Raises:
        ValueError: ``image`` or ``grid`` has another shape, or ``side`` is not positive.
        TypeError: ``image`` has another type.
    """
    image = _image("enlarge", image, any_channels=True)
    gh, gw = _grid("enlarge", grid)
    if side < 1:
        raise ValueError(f"dsm_ext.enlarge: expected side to be positive, got {side}")
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    size = (gh * max(8, round(height * scale / gh)), gw * max(8, round(width * scale / gw)))
    resized = F.interpolate(image[None].float(), size=size, mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


def to_image(image: Tensor | Image.Image) -> Image.Image:
    """Convert an image [3 or 1, height, width] in [0, 1] to a PIL image.

    Raises:
        ValueError: another shape.
        TypeError: another type of image.
    """
    return Image.fromarray(_bytes(_pixels(_image("to_image", image))))


def _image(function: str, image: Any, any_channels: bool = False) -> Tensor:
    """The caller's image as a tensor [channels, height, width] of floats."""
    if isinstance(image, Image.Image):
        levels = np.array(to_rgb(image))  # [height, width, 3]
        return torch.from_numpy(levels).permute(2, 0, 1).float() / 255
    expected = f"dsm_ext.{function}: expected image to be "
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{expected}a tensor [3 or 1, height, width] of floats in [0, 1] or a PIL image, got "
            f"{type(image).__name__}; torch.from_numpy or PIL.Image.fromarray make one of an array"
        )
    channels = "channels" if any_channels else "3 or 1"
    if image.ndim != 3 or 0 in image.shape or not (any_channels or image.shape[0] in (1, 3)):
        raise ValueError(f"{expected}[{channels}, height, width], got {list(image.shape)}")
    if not image.is_floating_point():
        raise TypeError(f"{expected}of floats in [0, 1], got {image.dtype}: divide bytes by 255")
    if not image.isfinite().all():
        raise ValueError(f"{expected}in [0, 1], got NaN or infinity")
    return image.detach()


def _grid(function: str, grid: Any) -> tuple[int, int]:
    """The caller's grid as two positive integers."""
    try:
        gh, gw = (operator.index(side) for side in grid)
    except (TypeError, ValueError):
        gh = gw = 0
    if gh < 1 or gw < 1:
        raise ValueError(
            f"dsm_ext.{function}: expected grid to be two positive numbers, rows and columns of "
            f"patches, got {grid}"
        )
    return gh, gw


def _square(source: Tensor, height: int, width: int) -> tuple[int, int]:
    """The grid of square patches: gh * gw = count, and gh / gw = height / width."""
    count = source.numel()
    gh = math.isqrt(count * height // width)
    gw = count // max(gh, 1)
    if gh < 1 or gh * gw != count or gh * width != gw * height:
        raise ValueError(
            "dsm_ext.visualize: without grid, expected source to be a grid of square patches, got "
            f"{count} patches of an image of {height} x {width}: give grid, the model's rows and "
            "columns of patches (model.config.grid)"
        )
    return gh, gw


def _pixels(image: Tensor) -> np.ndarray:
    return image.float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy().clip(0, 1)


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


def _edges(groups: np.ndarray) -> np.ndarray:
    """Mark the pixels whose right or lower neighbour belongs to another group."""
    edge = np.zeros(groups.shape, dtype=bool)
    edge[:, :-1] |= groups[:, :-1] != groups[:, 1:]
    edge[:-1] |= groups[:-1] != groups[1:]
    return edge


def _outline(painted: np.ndarray, groups: np.ndarray, luma: np.ndarray, wide: bool) -> None:
    """Draw between groups in black or white, by the mean luma of both. ``wide``: on both sides."""
    for axis in (0, 1):
        pixels, group, light = (np.moveaxis(a, axis, 0) for a in (painted, groups, luma))
        edge = group[:-1] != group[1:]
        color = np.where(light[:-1] + light[1:] > 2 * LIGHT, 0, 255)[edge][:, None]
        pixels[:-1][edge] = color
        if wide:
            pixels[1:][edge] = color


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
    """Draw an image, then its groups frame by frame, each frame with its title.

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
    image = _image("filmstrip", image)
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
