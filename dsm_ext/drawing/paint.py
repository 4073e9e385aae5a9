"""Painting the patches of each token in their mean colour, with outlines between tokens."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsm_ext.drawing.inputs import given_grid, image_tensor, square_grid, to_bytes, to_pixels

# Tokens lighter than this luma get a black outline. It is well above middle grey, on which white is
# visible too, so that most pictures have outlines of one colour.
LIGHT = 0.72


def visualize(
    image: Tensor | Image.Image,
    source: Tensor,
    grid: tuple[int, int] | None = None,
    outline: tuple[int, int, int] | None = None,
    location: Tensor | None = None,
) -> Image.Image:
    """Paint the patches of each token in their mean colour, with outlines between tokens.

    Args:
        image: [3 or 1, height, width] of floats in [0, 1], before normalisation; or a PIL image,
            which ``dsm_ext.images.to_rgb`` converts.
        source: [gh * gw], one row of ``trace``'s ``source``.
        grid: rows and columns of patches. None takes the grid in which patches are square.
        outline: the colour between tokens, one pixel wide. None draws black between light tokens
            and white between others. This is visible on every picture, and is two pixels wide if
            patches have 16 pixels or more. Enlarge small images first (``enlarge``).
        location: [M, 2], one row of ``trace``'s ``location``. Marks the location of each token that
            holds several patches by a dot. None marks nothing.

    Raises:
        ValueError: the shapes do not fit each other; or no grid is given and no grid of square
            patches fits.
        TypeError: ``image`` or ``source`` has another type.
    """
    image = image_tensor("visualize", image)
    if not isinstance(source, Tensor):
        raise TypeError(
            f"dsm_ext.visualize: expected source to be a tensor, got {type(source).__name__}"
        )
    _, height, width = image.shape
    if grid is None:
        gh, gw = square_grid(source, height, width)
    else:
        gh, gw = given_grid("visualize", grid)
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
    tokens = source.cpu().numpy().reshape(gh, gw)[rows][:, columns]  # [height, width]
    pixels = to_pixels(image)

    _, index = np.unique(tokens, return_inverse=True)
    index = index.reshape(tokens.shape)
    count = np.bincount(index.ravel())
    mean = np.stack(
        [np.bincount(index.ravel(), pixels[..., c].ravel()) / count for c in range(3)], axis=-1
    )
    painted = to_bytes(mean[index])
    if location is not None:
        dots = _dots(location, source, (gh, gw))
    if outline is None:
        luma = mean @ np.array([0.299, 0.587, 0.114])
        _outline(painted, tokens, luma[index], wide=min(height // gh, width // gw) >= 16)
    else:
        painted[_edges(tokens)] = outline
    picture = Image.fromarray(painted)
    if location is not None:
        _mark(picture, dots, (height / gh, width / gw))
    return picture


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
    image = image_tensor("enlarge", image, any_channels=True)
    gh, gw = given_grid("enlarge", grid)
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
    return Image.fromarray(to_bytes(to_pixels(image_tensor("to_image", image))))


def _dots(location: Tensor, source: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """The locations [n, 2] of the tokens that hold several patches. Checks all locations."""
    tokens, patches = source.cpu().unique(return_counts=True)
    fits = isinstance(location, Tensor) and location.ndim == 2 and location.shape[1] == 2
    if not fits or len(location) <= int(tokens.max()):
        given = list(location.shape) if isinstance(location, Tensor) else type(location).__name__
        raise ValueError(
            f"dsm_ext.visualize: expected location to be [{int(tokens.max()) + 1} or more tokens, "
            f"2], got {given}"
        )
    dots = location.cpu()[tokens[patches > 1].long()].numpy()
    if not ((dots >= 0) & (dots <= np.array(grid))).all():
        raise ValueError(
            "dsm_ext.visualize: expected locations inside the grid of "
            f"{grid[0]} x {grid[1]} patches"
        )
    return dots


def _mark(picture: Image.Image, dots: np.ndarray, patch: tuple[float, float]) -> None:
    """Draw a dot at each (row, column), given in patches of (height, width) pixels."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    radius = max(2.0, min(patch) / 7)
    for row, column in dots:
        y, x = row * patch[0], column * patch[1]
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=(230, 30, 30), outline="white"
        )


def _edges(tokens: np.ndarray) -> np.ndarray:
    """Mark the pixels whose right or lower neighbour belongs to another token."""
    edge = np.zeros(tokens.shape, dtype=bool)
    edge[:, :-1] |= tokens[:, :-1] != tokens[:, 1:]
    edge[:-1] |= tokens[:-1] != tokens[1:]
    return edge


def _outline(painted: np.ndarray, tokens: np.ndarray, luma: np.ndarray, wide: bool) -> None:
    """Draw between tokens in black or white, by the mean luma of both. ``wide``: on both sides."""
    for axis in (0, 1):
        pixels, token, light = (np.moveaxis(a, axis, 0) for a in (painted, tokens, luma))
        edge = token[:-1] != token[1:]
        color = np.where(light[:-1] + light[1:] > 2 * LIGHT, 0, 255)[edge][:, None]
        pixels[:-1][edge] = color
        if wide:
            pixels[1:][edge] = color
