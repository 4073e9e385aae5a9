"""Models from timm's, by themselves or by name."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from dsm_ext._native import Config, Schedule
from dsm_ext.described import described
from dsm_ext.model import VisionTransformer
from dsm_ext.pretrained_cfg import cfg_of_timm


def from_timm(
    model: nn.Module | str,
    schedule: Schedule | str = "dsm",
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    weights_prefix: str | None = None,
    use_ema: bool = True,
    img_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    global_pool: str | None = None,
    dynamic_img_size: bool | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> VisionTransformer:
    """A compiled model with a timm model's weights.

    Args:
        model: a timm ``VisionTransformer``, whose weights are shared where dtype and device stay,
            or a name that ``timm.create_model`` takes. It is computed as in eval mode: dropout and
            drop path do nothing. Wrappers that compute the same (torch.compile's, DataParallel,
            DistributedDataParallel, AveragedModel, timm's ModelEmaV2 and V3) are taken off.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        weights: with a name, a weight file: safetensors, or what ``torch.save`` wrote, a state
            dict or the checkpoint of a training script. What timm itself converts to its names
            (DINOv2's, the image half of OpenAI's CLIP and of OpenCLIP, JAX's .npz) is converted.
            The file is read at once and not mapped into memory: it may be changed or deleted
            afterwards.
        pretrained: with a name, take the weights that timm downloads.
        weights_prefix: with a file, take the tensors with this prefix, such as
            ``"teacher.backbone."``; None finds it where one Vision Transformer is in the file.
        use_ema: with a file, take averaged weights ("state_dict_ema", "model_ema") where it has
            them, as timm does.
        img_size: with a name, take images of this size: (height, width) or a side in pixels. Where
            the weights are for another size, their position embedding is resampled as timm does;
            without img_size, a file with positions for another size than the name's is refused.
        num_classes: with a name, as in ``timm.create_model``: the classes of the head, 0 for none.
            A file must have as many; those that timm downloads get a new head, of random weights.
        in_chans: with a name, as in ``timm.create_model``: the channels of the images.
        global_pool: with a name, as in ``timm.create_model``: "token", "avg", "map" or "".
        dynamic_img_size: take images of any size that the patch size divides, the position
            embedding resampled as timm does; None keeps the model's.
        dtype: float32, bfloat16 or float16; None keeps the model's, which is float32 with a name,
            whatever the file's.
        device: None keeps the model's.

    Raises:
        NotImplementedError: the model has a feature that is not supported; the message names it.
            With a name nothing is read or downloaded before that.
        ValueError: the schedule or the weights do not fit; missing, unexpected, misshapen and
            non-finite weights are named, and arguments with which they would fit. A file that
            cannot be read; an unknown name; a number out of range.
        TypeError: an argument of another type, or weights of an unsupported dtype.
        FileNotFoundError: no such weight file.
    """
    from dsm_ext.timm_features import check_supported, config_of
    from dsm_ext.timm_wrappers import unwrapped

    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"dsm_ext.from_timm: expected dtype to be a torch.dtype, got {described(dtype)}"
        )
    try:
        device = None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            "dsm_ext.from_timm: expected device to be one that torch knows, got "
            f"{described(device)}"
        ) from error
    source: Any
    if isinstance(model, str):
        if (weights is not None) == bool(pretrained):
            raise ValueError(
                "dsm_ext.from_timm: expected either weights=FILE or pretrained=True beside the "
                f"name {described(model)}"
            )
        source = create_timm(
            model,
            weights,
            pretrained,
            weights_prefix=weights_prefix,
            use_ema=use_ema,
            img_size=img_size,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
        )
    else:
        source = unwrapped(model)
        named = (weights, weights_prefix, img_size, num_classes, in_chans, global_pool)
        if pretrained or any(value is not None for value in named):
            raise TypeError(
                "dsm_ext.from_timm: weights, pretrained, weights_prefix, num_classes, in_chans, "
                "global_pool and img_size go with a model's name"
            )
        check_supported(source)
    config = config_of(source)
    if dynamic_img_size is not None:
        config = Config(**config.to_dict() | {"dynamic_img_size": dynamic_img_size})
    parameters = source.named_parameters(remove_duplicate=False)
    state = {name: tensor.detach() for name, tensor in parameters}
    if dtype is not None or device is not None:
        state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
    fast = VisionTransformer(config, schedule, state)
    fast._pretrained_cfg = cfg_of_timm(source, config)
    fast._model_args = getattr(source, "_model_args", {})
    return fast


def create_timm(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    *,
    weights_prefix: str | None = None,
    use_ema: bool = True,
    img_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    global_pool: str | None = None,
) -> Any:
    """timm's own model, in eval mode: with a file's weights, timm's, or random ones.

    Args:
        name, weights, ...: as ``from_timm`` takes them.

    Raises:
        NotImplementedError, ValueError, TypeError, FileNotFoundError: as ``from_timm``.
    """
    from dsm_ext.timm_models import arguments, create, shape_of
    from dsm_ext.timm_weights import give_weights

    if weights is not None and pretrained:
        raise ValueError("dsm_ext.from_timm: expected one of weights=FILE and pretrained=True")
    if weights is None and weights_prefix is not None:
        raise ValueError("dsm_ext.from_timm: weights_prefix goes with weights=FILE")
    kwargs = arguments(
        img_size=img_size, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool
    )
    shape = shape_of(name, kwargs)
    if weights is None:
        return create(name, kwargs, pretrained)
    return give_weights(
        shape,
        weights,
        name=name,
        prefix=weights_prefix,
        use_ema=use_ema,
        resample=img_size is not None,
    )
