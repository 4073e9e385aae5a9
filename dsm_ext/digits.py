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

RopeType = Literal["cat", "dinov3", "mixed"]

# The further arguments of timm's Eva, which is this model with rotary positions in place of learned
# ones. The temperatures suit 14 x 14 patches.
ROTARY_ARCHITECTURE: dict[RopeType, dict[str, Any]] = {
    "cat": {"rope_temperature": 100.0},
    "dinov3": {"rope_temperature": 100.0, "rope_rotate_half": True},
    "mixed": {"rope_temperature": 10.0},
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


def create_rotary_model(rope_type: RopeType, weights: Path | None = None) -> torch.nn.Module:
    """Make timm's ``Eva`` of the demo's shape with rotary positions, in float32 and eval mode.

    Args:
        rope_type: timm's name of the kind of rotation.
        weights: a file that ``tools/train_digits.py`` wrote for this kind; None: random weights.
    """
    from safetensors.torch import load_file
    from timm.models.eva import Eva

    model = Eva(
        **ARCHITECTURE,
        global_pool="token",
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type=rope_type,
        **ROTARY_ARCHITECTURE[rope_type],
    )
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model.eval()
