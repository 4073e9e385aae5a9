"""``from_timm``: compiled models made from timm's models or from their names."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from dsm_ext._native import Config, Schedule
from dsm_ext.error_text import described
from dsm_ext.model import VisionTransformer
from dsm_ext.model.pretrained_cfg import cfg_of_timm


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
    precision: str | None = None,
) -> VisionTransformer:
    """Make a compiled model with the weights of a timm model.

    Args:
        model: a timm ``VisionTransformer``, ``VisionTransformerDistilled`` or ``Eva`` (models with
            rotary positions), or a name for ``timm.create_model``. A model shares its weights,
            unless dtype or device change. It is computed in eval mode, without dropout and drop
            path. Wrappers that compute the same are removed: those of torch.compile, DataParallel,
            DistributedDataParallel, AveragedModel, and timm's ModelEmaV2 and V3.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        weights: only with a name. A safetensors file, or a file of ``torch.save`` with a state dict
            or the checkpoint of a training script. Files that timm can convert are converted
            (DINOv2's, DINOv3's, Sapiens2's, Perception Encoder's, the image half of OpenAI's CLIP
            and of OpenCLIP, JAX's .npz). The file is read completely: it may be changed or deleted
            afterwards.
        pretrained: only with a name. Take the weights that timm downloads.
        weights_prefix: only with a file. Take the tensors with this prefix, such as
            ``"teacher.backbone."``. None finds it if the file has one Vision Transformer.
        use_ema: only with a file. Prefer averaged weights ("state_dict_ema", "model_ema"), as timm
            does.
        img_size: only with a name. The size of the images, (height, width) or one side in pixels.
            If the weights are for another size, their position embedding is resampled as in timm;
            rotations are those of the new size.
            Without ``img_size``, a file for another size than the name's is refused.
        num_classes: only with a name, as in ``timm.create_model``: the number of classes, or 0 for
            no head. A file must have the same number. Weights that timm downloads get a new head
            with random weights if they have another number.
        in_chans: only with a name, as in ``timm.create_model``: the channels of the images.
        global_pool: only with a name, as in ``timm.create_model``: "token", "avg", "map" or "".
        dynamic_img_size: take images of every size that the patch size divides. The position
            embedding is resampled and the rotations are computed for each size, as in timm. None
            keeps the model's setting.
        dtype: float32, bfloat16 or float16. None keeps the model's. With a name it is float32,
            whatever dtype the file has.
        device: None keeps the model's.
        precision: "float32", "bfloat16", "int8" or "auto", as for ``VisionTransformer.precision``.
            None lets the dtype decide.

    Raises:
        NotImplementedError: the model has an unsupported feature. The message names it. With a
            name this is checked before anything is read or downloaded. Or the model cannot run in
            the precision here.
        ValueError: the schedule or the weights do not fit; a file cannot be read; a name is
            unknown; or a number is out of range. The message names missing, unexpected, misshapen
            and non-finite weights, and arguments that would make the weights fit.
        TypeError: an argument has another type, or the weights have an unsupported dtype.
        FileNotFoundError: the weight file does not exist.
    """
    from dsm_ext.timm_models.config import config_of
    from dsm_ext.timm_models.support import check_supported
    from dsm_ext.timm_models.wrappers import unwrapped

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
    if precision is not None:
        fast.precision = precision
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
    """Make timm's own model in eval mode, with a file's weights, timm's, or random ones.

    Args:
        name, weights, ...: as for ``from_timm``.

    Raises:
        NotImplementedError, ValueError, TypeError, FileNotFoundError: as for ``from_timm``.
    """
    from dsm_ext.timm_models.create import arguments, create, shape_of
    from dsm_ext.timm_models.weights import give_weights

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
