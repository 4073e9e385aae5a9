"""Pictures of what merged: each group in its mean colour, with outlines."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

WHITE = (255, 255, 255)


def visualize(
    image: Tensor,
    source: Tensor,
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] = WHITE,
) -> Image.Image:
    """Paint each group of merged patches in its mean colour and outline it.

    Args:
        image: [3 or 1, height, width] in [0, 1], before any normalisation.
        source: [gh * gw], one image's row of ``trace``'s source map.
        grid: rows and columns of patches; None takes a square one.
        outline: colour between groups, a pixel wide; enlarge a small image first.

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
    painted[_edges(groups)] = outline
    return Image.fromarray(painted)


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


def sheet(rows: list[list[Image.Image]], titles: list[str], tile: int = 224) -> Image.Image:
    """Images side by side, a column for each title."""
    from PIL import ImageDraw, ImageFont

    gap, head = 12, 40
    font = ImageFont.load_default(size=18)
    size = (gap + len(titles) * (tile + gap), head + len(rows) * (tile + gap))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        left = gap + column * (tile + gap)
        draw.text((left + tile // 2, head // 2), title, fill="black", font=font, anchor="mm")
        for line, images in enumerate(rows):
            picture = images[column].convert("RGB").resize((tile, tile), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, head + line * (tile + gap)))
    return canvas
