"""``from_open_clip``: compiled models made from the image towers of OpenCLIP's models."""

from __future__ import annotations

import torch
from torch import nn

from dsm_ext._native import Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.timm_models.from_timm import from_timm


def from_open_clip(
    model: nn.Module,
    schedule: Schedule | str = "dsm",
    *,
    dynamic_img_size: bool | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
) -> VisionTransformer:
    """Make a compiled model from the image tower of an OpenCLIP model.

    Without merging, ``fast(images)`` is ``model.encode_image(images, normalize=False)``. So the
    text tower of the OpenCLIP model gives the classes of a zero-shot classifier, as before.
    ``pretrained_cfg`` is known if ``open_clip.create_model`` made the model.

    Args:
        model: a ``CLIP``, ``CustomTextCLIP`` or ``CoCa`` of OpenCLIP, or its ``visual``: a
            ``VisionTransformer`` of OpenCLIP, or a ``TimmModel`` around a supported model of timm.
            The weights are shared where the names alone differ. The tower is computed in eval mode,
            without dropout.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        dynamic_img_size: take images of every size that the patch size divides. The position
            embedding is resampled as in timm. None takes images of the tower's size, or for a
            ``TimmModel`` keeps the setting of timm's model.
        dtype: float32, bfloat16 or float16. None keeps the dtype of the patch embedding.
        device: None keeps the model's.
        precision: as for ``from_timm``.

    Raises:
        TypeError: not a model of OpenCLIP.
        NotImplementedError: an unsupported tower or feature. The message names it.
        ValueError: the schedule does not fit.
    """
    from dsm_ext.open_clip_models.preprocessing import pretrained_cfg
    from dsm_ext.open_clip_models.towers import as_timm, tower_of

    tower = tower_of(model)
    source = as_timm(tower)
    if dtype is None:  # OpenCLIP keeps norms in float32 where other weights have half the bits
        patches = dict(source.named_parameters()).get("patch_embed.proj.weight")
        dtype = None if patches is None else patches.dtype
    fast = from_timm(
        source,
        schedule,
        dynamic_img_size=dynamic_img_size,
        dtype=dtype,
        device=device,
        precision=precision,
    )
    fast.pretrained_cfg = pretrained_cfg(tower)
    return fast
