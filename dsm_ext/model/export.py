"""``export``: writing a model to a folder that Python, C++ and timm can load."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dsm_ext._native import _C, Config, __version__
from dsm_ext.error_text import described
from dsm_ext.model.class_names import class_names, label_names
from dsm_ext.model.load import CONFIG, WEIGHTS
from dsm_ext.model.pretrained_cfg import cfg_of_timm
from dsm_ext.model.vision_transformer import VisionTransformer


def export(
    model: VisionTransformer, folder: str | os.PathLike[str], timm_model: Any = None
) -> Path:
    """Write model.safetensors and config.json, in the layout of the model hub.

    ``dsm_ext.load``, and ``dsm_ext::load`` in C++, read them back with schedule, precision,
    preprocessing and labels. The weight file also holds a copy of the config, so it can be loaded
    alone. timm can read the folder too, if ``timm.create_model`` made the model with arguments that
    JSON can hold.

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
    if model._core.chosen_precision is not None:
        content["dsm_ext"]["precision"] = model.precision
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
    from dsm_ext.timm_models.config import config_of
    from dsm_ext.timm_models.support import check_supported

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
