"""Folders with a model that C++ and Python load: weights, config and schedule."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dsm_ext._native import Config, Schedule, __version__
from dsm_ext.model import VisionTransformer
from dsm_ext.weights import load_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSING = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


def export(
    model: VisionTransformer, folder: str | os.PathLike[str], timm_model: Any = None
) -> Path:
    """Write a model as the model hub lays it out: model.safetensors beside timm's config.json.

    ``dsm_ext::load`` in C++ and ``dsm_ext.load`` read it back, schedule included; so does timm.

    Args:
        folder: made if need be; the two files in it are overwritten.
        timm_model: timm's model, for the architecture's name and the preprocessing in config.json.

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
    content["global_pool"] = config.global_pool
    content["dsm_ext"] = {
        "version": __version__,
        "config": config.to_dict(),
        "schedule": model.schedule.to_dict(),
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
    return folder


def load(
    folder: str | os.PathLike[str], schedule: Schedule | str | None = None
) -> VisionTransformer:
    """The model of a folder that ``export`` wrote.

    Args:
        schedule: None takes the one that was exported.

    Raises:
        FileNotFoundError: a file that the folder lacks.
        ValueError: a file that cannot be read, or does not fit the other; a schedule that does not
            fit the model.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"dsm_ext: no such file: {path}")
    try:
        section = json.loads(path.read_text())["dsm_ext"]
        config = Config(**section["config"])
        own = Schedule.from_dict(section["schedule"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"dsm_ext: {path} is not what export writes: {error}") from error
    return VisionTransformer(
        config, own if schedule is None else schedule, load_weights(Path(folder) / WEIGHTS)
    )
