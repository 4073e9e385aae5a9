"""Preprocessing of pictures: timm's evaluation transform for a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsm_ext_reader.decoding import to_rgb
from dsm_ext_reader.resizing import Resizing


def transform_for(model: Any) -> Transform:
    """Make the preprocessing that a model's ``pretrained_cfg`` describes.

    Args:
        model: timm's or a ``dsm_ext.VisionTransformer``, also inside torch.compile or a data
            parallel wrapper. The crop has the model's own image size, whatever the config says.

    Raises:
        ValueError: the model takes neither 1 nor 3 channels, or has no ``pretrained_cfg`` with mean
            and std.
    """
    from timm.data import resolve_data_config

    from dsm_ext.model import VisionTransformer

    parts = getattr(model, "_modules", {})
    while wrapper := {"_orig_mod", "module"} & parts.keys():
        model = parts[wrapper.pop()]
        parts = model._modules
    if "patch_embed" not in parts:
        raise ValueError(
            "dsm_ext: expected a Vision Transformer of timm's or dsm_ext's, got a "
            f"{type(model).__name__}"
        )
    if not getattr(model, "pretrained_cfg", None):  # our own raises an error if it is unknown
        raise ValueError(
            f"dsm_ext: how pictures are prepared for this {type(model).__name__} is not known: it "
            "has no pretrained_cfg; timm.create_model(NAME) makes models that have one"
        )
    config = resolve_data_config({}, model=model)
    if isinstance(model, VisionTransformer):
        size, channels = model.config.img_size, model.config.in_chans
    else:
        size, channels = model.patch_embed.img_size, model.patch_embed.proj.in_channels
    if channels not in (1, 3):
        raise ValueError(
            f"dsm_ext: the model takes {channels} channels, pictures have 1 or 3: "
            "prepare its images yourself"
        )
    config["input_size"] = (channels, *size)
    if channels == 1:
        for name in ("mean", "std"):
            config[name] = (sum(config[name]) / len(config[name]),)
    return Transform(config)


class Transform:
    """Converts a PIL image to the model's input: float32 [channels, height, width] on the CPU.

    It applies ``to_rgb`` (then grey, for a model of one channel), timm's scaling and cropping, and
    the normalisation. It does not depend on torch's default dtype and device. It can be pickled.

    Args:
        config: the result of timm's ``resolve_data_config``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.resizing = Resizing.of(config)
        self.mean, self.std = (
            torch.from_numpy(np.array(config[name], dtype=np.float32).reshape(-1, 1, 1))
            for name in ("mean", "std")
        )

    def __call__(self, picture: Image.Image) -> Tensor:
        """
        Raises:
            TypeError, ValueError, OSError: as ``to_rgb``. ValueError also if one side is so much
                longer than the other that scaling would need too much memory.
        """
        height, width = self.resizing.height, self.resizing.width
        pixels = np.array(self.resizing(to_rgb(picture))).reshape(1, height, width, -1)
        return self.normalise(torch.from_numpy(pixels))[0]

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert pixels of the model's size to the model's input, on the device of the pixels.

        Args:
            pixels: [b, height, width, channels] uint8.

        Returns:
            [b, channels, height, width] float32, contiguous.
        """
        levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return levels.div_(255).sub_(mean).div_(std)
