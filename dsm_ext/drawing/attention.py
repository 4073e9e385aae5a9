"""Drawing what a model looks at: a picture that is bright where attention is high."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from dsm_ext.drawing.inputs import image_tensor, to_bytes, to_pixels
from dsm_ext.drawing.paint import to_image
from dsm_ext.drawing.sheets import strip

DARKEST = 0.12  # the brightness of a patch without attention, so that it can still be recognised


def attention_map(image: Tensor | Image.Image, attention: Tensor) -> Image.Image:
    """Draw an image bright where attention is high, and dark where it is low.

    The brightness of a patch grows with the square root of its attention. The patch with the most
    attention keeps the colours of the image.

    Args:
        image: [3 or 1, height, width] of floats in [0, 1], before normalisation; or a PIL image.
        attention: [gh, gw], not negative, for example the mean over the heads of one image of
            ``model.class_attention``.

    Raises:
        ValueError: a shape does not fit, or attention is negative or not finite.
        TypeError: ``image`` or ``attention`` has another type.
    """
    image = image_tensor("attention_map", image)
    _, height, width = image.shape
    if not isinstance(attention, Tensor):
        raise TypeError(
            "dsm_ext.attention_map: expected attention to be a tensor, got "
            f"{type(attention).__name__}"
        )
    shape = list(attention.shape)
    if len(shape) != 2 or not (1 <= shape[0] <= height and 1 <= shape[1] <= width):
        raise ValueError(
            f"dsm_ext.attention_map: expected attention to be [gh, gw] with at most {height} rows "
            f"and {width} columns, got {shape}"
        )
    weights = attention.detach().double().cpu()
    if not weights.isfinite().all() or weights.min() < 0:
        raise ValueError("dsm_ext.attention_map: expected attention to be finite and not negative")
    bright = (weights / weights.max().clamp(min=1e-30)).sqrt().numpy()
    rows, columns = np.arange(height) * shape[0] // height, np.arange(width) * shape[1] // width
    brightness = DARKEST + (1 - DARKEST) * bright[rows][:, columns]
    return Image.fromarray(to_bytes(to_pixels(image) * brightness[..., None]))


def attention_strip(
    image: Tensor | Image.Image, attention: Tensor, columns: int = 7
) -> Image.Image:
    """Draw an image, then the mean attention of all heads, then the attention of each head.

    Args:
        image: as for ``attention_map``.
        attention: [H, gh, gw], one image of ``model.class_attention``.
        columns: the maximum number of frames in a row. Rows are filled evenly.

    Raises:
        ValueError, TypeError: as for ``attention_map``.
    """
    if not isinstance(attention, Tensor) or attention.ndim != 3:
        raise ValueError("dsm_ext.attention_strip: expected attention to be a tensor [H, gh, gw]")
    maps = [attention.float().mean(0), *attention]
    frames = [to_image(image), *(attention_map(image, one) for one in maps)]
    names = ["input", "all heads", *(f"head {h}" for h in range(len(attention)))]
    return strip(frames, names, columns)
