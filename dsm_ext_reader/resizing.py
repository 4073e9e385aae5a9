"""Scaling and cropping pictures to a model's size, as timm's transform for evaluation does it.

Sizes and offsets are rounded as in timm and torchvision, and Pillow resamples: the pixels equal
timm's. timm's own transform would import torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

MOST_SIDE = 2**20  # pixels of a side after scaling, the same limit as Preprocessing in C++
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Resizing:
    """Converts a picture of mode RGB to a model's size and channels. Comparable and picklable."""

    channels: int
    """1: the result is grey. 3: it is RGB."""
    height: int
    width: int
    crop_pct: float
    """The share of the scaled picture's side that the crop keeps."""
    crop_mode: str
    """``center``, ``squash`` or ``border``, as in timm."""
    interpolation: str
    """A key of ``INTERPOLATIONS``."""
    fill: tuple[int, ...]
    """The colour of the border, a level for each channel, where a picture is smaller than the
    crop."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Resizing:
        """Take the values from the result of timm's ``resolve_data_config``.

        Raises:
            ValueError: Pillow has no such interpolation.
        """
        channels, height, width = config["input_size"]
        interpolation, mode = config["interpolation"], config["crop_mode"]
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"dsm_ext: expected interpolation to be one of {', '.join(INTERPOLATIONS)}, got "
                f"{interpolation!r}"
            )
        border = mode == "border"
        fill = tuple(round(255 * mean) for mean in config["mean"]) if border else (0,) * channels
        return cls(channels, height, width, config["crop_pct"], mode, interpolation, fill)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The height and width to which a picture is scaled before the crop.

        Raises:
            ValueError: one side is so much longer than the other that scaling would need too much
                memory.
        """
        target = math.floor(self.height / self.crop_pct), math.floor(self.width / self.crop_pct)
        if self.crop_mode == "squash":
            return target
        shorter, longer = sorted((height, width))
        if self.crop_mode == "center" and target[0] == target[1]:
            other = int(target[0] * longer / shorter)
            sides = (target[0], other) if height <= width else (other, target[0])
        else:
            ratios = height / target[0], width / target[1]
            ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
            sides = round(height / ratio), round(width / ratio)
        if max(sides) > MOST_SIDE or min(sides) < 1:
            raise ValueError(
                f"a picture of {width} x {height} has sides too unlike to be scaled to "
                f"{self.width} x {self.height}: cut it first"
            )
        return sides

    def __call__(self, picture: Image.Image) -> Image.Image:
        """
        Args:
            picture: of mode RGB.

        Returns:
            A picture of mode L or RGB, ``width`` x ``height``.

        Raises:
            ValueError: as ``scaled``.
        """
        image = picture.convert("L" if self.channels == 1 else "RGB")
        height, width = self.scaled(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        return self._cropped(image)

    def _cropped(self, image: Image.Image) -> Image.Image:
        frame = max(image.width, self.width), max(image.height, self.height)
        if frame != image.size:
            framed = Image.new(image.mode, frame, self.fill if self.channels > 1 else self.fill[0])
            framed.paste(image, ((frame[0] - image.width) // 2, (frame[1] - image.height) // 2))
            image = framed
        left, top = round((frame[0] - self.width) / 2), round((frame[1] - self.height) / 2)
        return image.crop((left, top, left + self.width, top + self.height))
