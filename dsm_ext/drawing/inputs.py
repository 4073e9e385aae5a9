"""Checks and conversions of images and grids that callers pass."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsm_ext.images import to_rgb


def image_tensor(function: str, image: Any, any_channels: bool = False) -> Tensor:
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


def given_grid(function: str, grid: Any) -> tuple[int, int]:
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


def square_grid(source: Tensor, height: int, width: int) -> tuple[int, int]:
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


def to_pixels(image: Tensor) -> np.ndarray:
    """An image [3 or 1, height, width] as an array [height, width, 3] in [0, 1]."""
    return image.float().cpu().expand(3, -1, -1).permute(1, 2, 0).numpy().clip(0, 1)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as bytes, rounded."""
    return (pixels * 255).round().astype(np.uint8)
