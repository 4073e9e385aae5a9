"""Pictures in which neighbouring patches mean nothing to each other."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor

TEXTURES = ("brick", "grass", "gravel")  # grey photographs in scikit-image's wheel, free to use


def permuted(images: Tensor, patch: tuple[int, int], seed: int = 0) -> Tensor:
    """The images [n, channels, height, width] with their patches in random places.

    Each image has an order of its own. The model then finds the same patches at other positions.

    Args:
        patch: height and width of a patch. What is left at the borders stays where it is.
    """
    generator = torch.Generator().manual_seed(seed)
    _, channels, height, width = images.shape
    (ph, pw), out = patch, images.clone()
    gh, gw = height // ph, width // pw
    for image in out:
        inside = image[:, : gh * ph, : gw * pw]
        patches = inside.reshape(channels, gh, ph, gw, pw).permute(1, 3, 0, 2, 4)
        order = torch.randperm(gh * gw, generator=generator)
        mixed = patches.reshape(gh * gw, channels, ph, pw)[order]
        mixed = mixed.view(gh, gw, channels, ph, pw).permute(2, 0, 3, 1, 4)
        inside.copy_(mixed.reshape(channels, gh * ph, gw * pw))
    return out


def noise_like(levels: Tensor, seed: int = 0) -> Tensor:
    """Noise with the colours and the spectrum of each picture: no place differs from another.

    The phases of the picture's Fourier transform are replaced by those of white noise, the same in
    all channels, which keeps the channels' correlation.

    Args:
        levels: [n, channels, height, width] in [0, 1].

    Returns:
        The same shape, cut off at 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    n, _, height, width = levels.shape
    white = torch.fft.rfft2(torch.randn(n, 1, height, width, generator=generator))
    phase = white / white.abs().clamp_min(1e-12)
    phase[..., 0, 0] = 1  # the mean stays
    changed: Tensor = torch.fft.irfft2(torch.fft.rfft2(levels) * phase, s=(height, width))
    return changed.clamp(0, 1)


def textures(count: int, height: int, width: int, channels: int, seed: int = 0) -> Tensor | None:
    """Random crops of brick, grass and gravel, some of them mirrored, in turn.

    Returns:
        [count, channels, height, width] float32 in [0, 1]. None if scikit-image is not installed,
        or its photographs of 512 x 512 pixels are too small.
    """
    if importlib.util.find_spec("skimage") is None or max(height, width) > 512:
        return None
    from skimage import data

    sheets = [torch.from_numpy(np.asarray(getattr(data, name)())).float() for name in TEXTURES]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        sheet = sheets[i % len(sheets)] / 255
        top = int(torch.randint(sheet.shape[0] - height + 1, (), generator=generator))
        left = int(torch.randint(sheet.shape[1] - width + 1, (), generator=generator))
        crop = sheet[top : top + height, left : left + width]
        found.append(crop.flip(1) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.stack(found)[:, None].repeat(1, channels, 1, 1)
