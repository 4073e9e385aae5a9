"""The data and the model of the demo: scikit-learn's handwritten digits and a small ViT.

Each 8 x 8 digit is enlarged to 56 x 56 pixels, which makes a 14 x 14 grid of 4 x 4 patches. This is
the grid of a 224-pixel ImageNet model, so the same windows and schedules apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

WEIGHTS = Path(__file__).parent / "data" / "digits.safetensors"
IMAGE_SIZE = 56

# The arguments of timm's VisionTransformer.
ARCHITECTURE: dict[str, Any] = {
    "img_size": IMAGE_SIZE,
    "patch_size": 4,
    "in_chans": 1,
    "num_classes": 10,
    "embed_dim": 96,
    "depth": 12,
    "num_heads": 3,
}


def load_digits(split: Literal["train", "test"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Load images float32 [n, 1, 56, 56] in [-1, 1] and labels int64 [n].

    The split is fixed: every fifth of scikit-learn's 1,797 digits belongs to "test" (360 digits).

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError(
            "the digits need scikit-learn, which is not installed; run: pip install scikit-learn"
        ) from error
    bunch = load()
    pixels = torch.from_numpy(bunch.images).float()[:, None] / 16
    images = F.interpolate(pixels, size=IMAGE_SIZE, mode="bicubic").clamp(0, 1) * 2 - 1
    labels = torch.from_numpy(bunch.target).long()
    held_out = torch.arange(len(labels)) % 5 == 0
    chosen = held_out if split == "test" else ~held_out
    return images[chosen], labels[chosen]


def create_model(pretrained: bool = True) -> torch.nn.Module:
    """Make the demo's timm ``VisionTransformer``, in float32 and eval mode.

    ``tools/train_digits.py`` trains it. The file holds its weights in float16.
    """
    from safetensors.torch import load_file
    from timm.models import VisionTransformer

    model = VisionTransformer(**ARCHITECTURE)
    if pretrained:
        model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
