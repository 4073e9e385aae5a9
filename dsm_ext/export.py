"""Writing models to folders and reading them: ``export``, ``load``, ``model_info``."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dsm_ext._native import _C, Config, ModelInfo, Schedule, __version__
from dsm_ext.described import described
from dsm_ext.model import VisionTransformer
from dsm_ext.pretrained_cfg import cfg_of_info, cfg_of_timm, class_names, label_names

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def export(
    model: VisionTransformer, folder: str | os.PathLike[str], timm_model: Any = None
) -> Path:
    """Write model.safetensors and config.json, in the layout of the model hub.

    ``dsm_ext.load``, and ``dsm_ext::load`` in C++, read them back with schedule, preprocessing and
    labels. The weight file also holds a copy of the config, so it can be loaded alone. timm can
    read the folder too, if ``timm.create_model`` made the model with arguments that JSON can hold.

    Args:
        folder: created if it does not exist. The two files are replaced at once.
        timm_model: the timm model that tells the architecture's name, the preprocessing and the
            labels. None uses the model's own ``pretrained_cfg``. If neither says how to prepare
            pictures, the folder does not say it either.

    Returns:
        The folder.

    Raises:
        RuntimeError: the model is frozen.
        ValueError: ``load`` would refuse the preprocessing or the labels; or ``timm_model`` is
            another model.
        OSError: the folder cannot be written.
    """
    if not isinstance(model, VisionTransformer):
        raise TypeError(
            f"dsm_ext.export: expected a dsm_ext.VisionTransformer, got {described(model)}; "
            "dsm_ext.from_timm makes one of timm's model"
        )
    _check_of(timm_model, model)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    content: dict[str, Any] = {"num_classes": config.num_classes, "num_features": config.embed_dim}
    source = model if timm_model is None else timm_model
    cfg = model._pretrained_cfg
    if timm_model is not None:
        cfg = cfg_of_timm(timm_model, config)
        content["architecture"] = (cfg or {}).get("architecture", type(timm_model).__name__)
    elif cfg is not None and "architecture" in cfg:
        content["architecture"] = cfg["architecture"]
    if "architecture" in content:
        content["model_args"] = _arguments(source, config)
    if cfg is not None:
        content["pretrained_cfg"] = _preprocessing(cfg)
        content |= _labels(cfg, config.num_classes)
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
        # safetensors makes a file that only its owner can read
        weight_file.chmod(config_file.stat().st_mode)
        _C.model_info(str(weight_file))  # raises if the file could not be loaded
        for file in (weight_file, config_file):
            file.replace(folder / file.name)
    return folder


def _check_of(timm_model: Any, model: VisionTransformer) -> None:
    """Refuse a timm model that is another model than this one."""
    model._shared_core()  # refuse a module tree that the model cannot follow
    if timm_model is None:
        return
    from dsm_ext.timm_features import check_supported, config_of

    check_supported(timm_model)
    own, other = model.config.to_dict(), config_of(timm_model).to_dict()
    differing = [name for name in own if own[name] != other[name] and name != "dynamic_img_size"]
    if differing:
        said = ", ".join(f"{name} {own[name]!r} and {other[name]!r}" for name in differing)
        raise ValueError(f"dsm_ext.export: timm_model is another model than this one: {said}")


def _arguments(source: Any, config: Config) -> dict[str, Any]:
    """The arguments with which timm's ``create_model`` builds this model."""
    arguments = {}
    for name, value in getattr(source, "_model_args", {}).items():
        with contextlib.suppress(TypeError):
            arguments[name] = json.loads(json.dumps(value))
    return arguments | {
        "img_size": config.img_size,
        "in_chans": config.in_chans,
        "num_classes": config.num_classes,
        "global_pool": config.global_pool,
    }


def _preprocessing(cfg: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "tag", "input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode", "num_classes",
    )  # fmt: skip
    return {name: cfg[name] for name in names if cfg.get(name) is not None}


def _labels(cfg: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """timm's fields for the names of the classes."""
    names = label_names(cfg, num_classes)
    if names is None:
        return {}
    texts = class_names(cfg, num_classes) or names
    different = {name: text for name, text in zip(names, texts, strict=True) if name != text}
    return {"label_names": names, "label_descriptions": different}


def model_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Read what a model is, without its weights: config, schedule, preprocessing, labels.

    Args:
        path: a folder or file, as for ``load``.

    Raises:
        FileNotFoundError, ValueError: as for ``load``.
    """
    return _C.model_info(_existing(path))


def load(
    path: str | os.PathLike[str],
    schedule: Schedule | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> VisionTransformer:
    """Load a model from a folder or a weight file, like ``dsm_ext::load`` in C++. Without timm.

    Args:
        path: a folder that ``export`` wrote, or its model.safetensors alone; or a folder of the
            model hub with a supported architecture (model.safetensors and timm's config.json). The
            weights are copied at once: the file may be changed or deleted afterwards.
        schedule: None takes the exported schedule, or "dsm" if there is none.
        dtype: float32, bfloat16 or float16. None keeps the dtype of the file.
        device: where to put the weights.

    Raises:
        FileNotFoundError: the path does not exist, or the folder lacks a file.
        ValueError: a file cannot be read; the files do not fit each other; a weight is NaN or
            infinite; the schedule does not fit the model; or the device has no memory (meta).
        TypeError: another dtype.
    """
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dsm_ext.load: expected dtype to be a torch.dtype, got {described(dtype)}")
    text = schedule if schedule is None or isinstance(schedule, str) else "dense"
    core, info = _C.load_with_info(
        _existing(path), text, dtype, torch.device(device), check_finite=True
    )
    model = VisionTransformer._of(core)
    content = json.loads(info.config_json)
    model._pretrained_cfg = cfg_of_info(info, content)
    model._model_args = content.get("model_args") or {}
    if schedule is not None and schedule is not text:
        model.schedule = schedule
    return model


def _existing(path: str | os.PathLike[str]) -> str:
    """The path as a string, if its files exist."""
    path = Path(path)
    needed = [path / CONFIG, path / WEIGHTS] if path.is_dir() else [path]
    for file in needed:
        if not file.is_file():
            raise FileNotFoundError(f"dsm_ext: no such file: {file}")
    return str(path)
