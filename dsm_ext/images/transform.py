"""Preprocessing of pictures: timm's evaluation transform for a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsm_ext.images.decoding import to_rgb

MOST_SIDE = 2**20  # pixels of a side after scaling, the same limit as Preprocessing in C++


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
        from timm.data import create_transform

        self.config = config
        # With use_prefetcher timm's steps end with a conversion to a tensor and do not normalise.
        steps = create_transform(**config, is_training=False, use_prefetcher=True).transforms
        self._resize = steps[:-1]
        channels = config["input_size"][0]
        mean, std = (
            np.array(config[name], dtype=np.float32).reshape(-1, 1, 1) for name in ("mean", "std")
        )
        self._mode = "L" if channels == 1 else "RGB"
        self._mean, self._std = torch.from_numpy(mean), torch.from_numpy(std)

    def __call__(self, picture: Image.Image) -> Tensor:
        """
        Raises:
            TypeError, ValueError, OSError: as ``to_rgb``. ValueError also if one side is so much
                longer than the other that scaling would need too much memory.
        """
        rgb = to_rgb(picture)
        height, width = self.config["input_size"][1:]
        ratio = max(rgb.size) / min(rgb.size)
        side = ratio * max(height, width) / self.config["crop_pct"]
        if self.config["crop_mode"] == "center" and side > MOST_SIDE:  # other modes scale less
            raise ValueError(
                f"a picture of {rgb.width} x {rgb.height} has sides too unlike to be scaled to "
                f"{width} x {height}: cut it first"
            )
        image = rgb.convert(self._mode)
        for step in self._resize:
            image = step(image)
        pixels = torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1)
        return pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std).contiguous()
