"""Models in folders and files that C++ and Python load: weights, config and schedule."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dsm_ext._native import _C, ModelInfo, Schedule, __version__
from dsm_ext.model import VisionTransformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSING = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


def export(
    model: VisionTransformer, folder: str | os.PathLike[str], timm_model: Any = None
) -> Path:
    """Write a model as the model hub lays it out: model.safetensors beside timm's config.json.

    ``dsm_ext::load`` in C++ and ``dsm_ext.load`` read it back, schedule included; so does timm. The
    weight file holds a copy of the config, so that it can be loaded without the folder.

    Args:
        folder: made if need be; the two files in it are overwritten.
        timm_model: timm's model, for the architecture's name, the preprocessing and the labels of
            the classes.

    Returns:
        The folder.

    Raises:
        RuntimeError: the model is frozen.
        OSError: the folder cannot be written.
    """
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    content: dict[str, Any] = {"num_classes": config.num_classes, "num_features": config.embed_dim}
    if timm_model is not None:
        given = getattr(timm_model, "pretrained_cfg", None) or {}
        content["architecture"] = given.get("architecture", type(timm_model).__name__)
        known = {name: given[name] for name in PREPROCESSING if given.get(name) is not None}
        known["input_size"] = (config.in_chans, *config.img_size)
        content["pretrained_cfg"] = known
        content |= _labels(given, config.num_classes)
    content["global_pool"] = config.global_pool
    content["dsm_ext"] = {
        "version": __version__,
        "config": config.to_dict(),
        "schedule": model.schedule.to_dict(),
    }
    metadata = {"format": "pt", CONFIG: json.dumps(content)}
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
    save_file(state, folder / WEIGHTS, metadata=metadata)
    # safetensors lets the owner alone read it
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)
    return folder


def _labels(pretrained_cfg: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """timm's fields for the names of the classes: the checkpoint's own, or ImageNet-1k's."""
    names = pretrained_cfg.get("label_names")
    descriptions = pretrained_cfg.get("label_descriptions")
    if not names and num_classes == 1000:
        from timm.data import ImageNetInfo

        imagenet = ImageNetInfo()
        names = imagenet.label_names()
        descriptions = dict(zip(names, imagenet.label_descriptions(), strict=True))
    if not names or len(names) != num_classes:
        return {}
    return {"label_names": list(names), "label_descriptions": descriptions or {}}


def model_info(path: str | os.PathLike[str]) -> ModelInfo:
    """What a model is, without making it: config, schedule, preprocessing, labels.

    Args:
        path: as ``load`` takes it.

    Raises:
        FileNotFoundError, ValueError: as ``load``.
    """
    return _C.model_info(_existing(path))


def load(
    path: str | os.PathLike[str],
    schedule: Schedule | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> VisionTransformer:
    """The model of a folder, as ``dsm_ext::load`` in C++ gives it. timm is not needed.

    Args:
        path: what ``export`` wrote, the folder or its model.safetensors alone; or a folder as the
            model hub lays it out, model.safetensors beside timm's config.json, for the supported
            architectures. The weights are mapped into memory: the file must not be cut short while
            the model lives.
        schedule: None takes the one that was exported, else "dsm".
        dtype: float32, bfloat16 or float16; None keeps the file's.
        device: where the weights go.

    Raises:
        FileNotFoundError: no such path, or a file that the folder lacks.
        ValueError: a file that cannot be read, does not fit the other, or has NaN or infinity in
            its weights; a schedule that does not fit the model.
    """
    text = schedule if schedule is None or isinstance(schedule, str) else "dense"
    core = _C.load(_existing(path), text, dtype, torch.device(device), check_finite=True)
    model = VisionTransformer._of(core)
    if schedule is not None and schedule is not text:
        model.schedule = schedule
    return model


def _existing(path: str | os.PathLike[str]) -> str:
    """A path whose files are there."""
    path = Path(path)
    needed = [path / CONFIG, path / WEIGHTS] if path.is_dir() else [path]
    for file in needed:
        if not file.is_file():
            raise FileNotFoundError(f"dsm_ext: no such file: {file}")
    return str(path)
