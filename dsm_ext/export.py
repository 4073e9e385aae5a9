"""Models in folders and files that C++ and Python load: weights, config and schedule."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dsm_ext._native import _C, Config, ModelInfo, Schedule, __version__
from dsm_ext.model import VisionTransformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def export(
    model: VisionTransformer, folder: str | os.PathLike[str], timm_model: Any = None
) -> Path:
    """Write a model as the model hub lays it out: model.safetensors beside timm's config.json.

    ``dsm_ext::load`` in C++ and ``dsm_ext.load`` read it back, schedule included. The weight file
    holds a copy of the config, so that it can be loaded without the folder. timm reads the folder
    too, where ``timm_model`` is given and ``timm.create_model`` made it of arguments that JSON can
    hold.

    Args:
        folder: made if need be; the two files in it are replaced at once, and a model that was
            loaded from them keeps the old ones.
        timm_model: timm's model, for the architecture's name, the preprocessing and the labels of
            the classes.

    Returns:
        The folder.

    Raises:
        RuntimeError: the model is frozen.
        ValueError: timm's preprocessing or labels are such that ``load`` would refuse them.
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
        content["model_args"] = _arguments(timm_model, config)
        content["pretrained_cfg"] = _preprocessing(given, config)
        content |= _labels(given, config.num_classes)
    content["global_pool"] = config.global_pool
    content["dsm_ext"] = {
        "version": __version__,
        "config": config.to_dict(),
        "schedule": model.schedule.to_dict(),
    }
    metadata = {"format": "pt", CONFIG: json.dumps(content)}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        config_file, weight_file = Path(name) / CONFIG, Path(name) / WEIGHTS
        config_file.write_text(json.dumps(content, indent=2) + "\n")
        save_file(state, weight_file, metadata=metadata)
        # safetensors lets the owner alone read it
        weight_file.chmod(config_file.stat().st_mode)
        _C.model_info(str(weight_file))  # raises where it could not be loaded
        for file in (weight_file, config_file):
            file.replace(folder / file.name)
    return folder


def _arguments(timm_model: Any, config: Config) -> dict[str, Any]:
    """What makes timm's ``create_model`` build this very model."""
    arguments = {}
    for name, value in getattr(timm_model, "_model_args", {}).items():
        with contextlib.suppress(TypeError):
            arguments[name] = json.loads(json.dumps(value))
    return arguments | {
        "img_size": config.img_size,
        "in_chans": config.in_chans,
        "num_classes": config.num_classes,
        "global_pool": config.global_pool,
    }


def _preprocessing(pretrained_cfg: dict[str, Any], config: Config) -> dict[str, Any]:
    """Of a checkpoint, for a model's own images; of other channels, their mean for each."""
    names = ("interpolation", "mean", "std", "crop_pct", "crop_mode", "fixed_input_size")
    known = {n: pretrained_cfg[n] for n in names if pretrained_cfg.get(n) is not None}
    known["input_size"] = (config.in_chans, *config.img_size)
    for name in ("mean", "std"):
        if name in known and len(known[name]) not in (1, config.in_chans):
            known[name] = [sum(known[name]) / len(known[name])]
    return known


def _labels(pretrained_cfg: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """timm's fields for the names of the classes: the checkpoint's own, or ImageNet-1k's."""
    names = pretrained_cfg.get("label_names")
    descriptions = pretrained_cfg.get("label_descriptions")
    if isinstance(names, dict):  # by index
        names = [names[i] for i in sorted(names, key=int)]
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
            its weights; a schedule that does not fit the model; a device without memory.
        TypeError: another dtype.
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
