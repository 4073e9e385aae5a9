"""Models from timm's, by themselves or by name."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from dsm_ext._native import Config, Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.weights import load_weights


def from_timm(
    model: nn.Module | str,
    schedule: Schedule | str = "dsm",
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    img_size: int | tuple[int, int] | None = None,
    dynamic_img_size: bool | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> VisionTransformer:
    """A compiled model with a timm model's weights.

    Args:
        model: a timm ``VisionTransformer``, whose weights are shared where dtype and device stay,
            or a name that ``timm.create_model`` takes. It is computed as in eval mode: dropout and
            drop path do nothing.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        weights: with a name, a .safetensors, .pt or .pth file of timm's names.
        pretrained: with a name, take the weights that timm downloads.
        img_size: with a name, take images of this size: (height, width) or a side in pixels. The
            position embedding is resampled as timm does.
        dynamic_img_size: take images of any size that the patch size divides, the position
            embedding resampled as timm does; None keeps the model's.
        dtype: float32, bfloat16 or float16; None keeps the model's.
        device: None keeps the model's.

    Raises:
        NotImplementedError: the model has a feature that is not supported; the message names it.
        ValueError: the schedule or the weights do not fit; missing, unexpected, misshapen and
            non-finite weights are named.
        TypeError: an argument of another type, or weights of an unsupported dtype.
        FileNotFoundError: no such weight file.
    """
    from dsm_ext.timm_features import check_supported, config_of

    source: Any = model
    if isinstance(model, str):
        if (weights is not None) == pretrained:
            raise ValueError(
                "dsm_ext.from_timm: expected either weights=FILE or pretrained=True beside the "
                f"name {model!r}"
            )
        source = create_timm(model, weights, pretrained)
        if img_size is not None:
            size = (img_size, img_size) if isinstance(img_size, int) else img_size
            source.set_input_size(img_size=size)
    elif weights is not None or pretrained or img_size is not None:
        raise TypeError(
            "dsm_ext.from_timm: weights, pretrained and img_size go with a model's name"
        )
    check_supported(source)
    config = config_of(source)
    if dynamic_img_size is not None:
        config = Config(**config.to_dict() | {"dynamic_img_size": dynamic_img_size})
    state = {name: tensor.detach() for name, tensor in source.state_dict().items()}
    if dtype is not None or device is not None:
        state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
    return VisionTransformer(config, schedule, state)


def create_timm(
    name: str, weights: str | os.PathLike[str] | None = None, pretrained: bool = False
) -> Any:
    """timm's own model, in eval mode: with a file's weights, timm's, or random ones.

    Raises:
        NotImplementedError, ValueError, FileNotFoundError: as ``from_timm``.
    """
    import timm

    from dsm_ext.timm_features import check_supported

    if ":" not in name and not timm.is_model(name.split(".")[0]):  # "hf-hub:..." is a hub's
        raise ValueError(f"dsm_ext.from_timm: timm has no model named {name!r}")
    if weights is None:
        model = timm.create_model(name, pretrained=pretrained).eval()
        check_supported(model)
        return model
    with torch.device("meta"):  # for its shape alone: the file brings the weights
        model = timm.create_model(name).eval()
    check_supported(model)
    return _assign(model, load_weights(weights))


def _assign(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Give a model on the meta device its weights; faults are named by the compiled model."""
    from dsm_ext.timm_features import config_of

    own = model.state_dict()
    if own.keys() != state.keys() or any(own[k].shape != state[k].shape for k in own):
        VisionTransformer(config_of(model), "dense", state)  # raises, naming them
    model.load_state_dict(state, assign=True)
    return model
