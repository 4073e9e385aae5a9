"""``load`` and ``model_info``: reading models from folders and weight files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from dsm_ext._native import _C, ModelInfo, Schedule
from dsm_ext.error_text import described
from dsm_ext.model.pretrained_cfg import cfg_of_info
from dsm_ext.model.vision_transformer import VisionTransformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"


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
    precision: str | None = None,
) -> VisionTransformer:
    """Load a model from a folder or a weight file, like ``dsm_ext::load`` in C++. Without timm.

    Args:
        path: a folder that ``export`` wrote, or its model.safetensors alone; or a folder of the
            model hub with a supported architecture (model.safetensors and timm's config.json). The
            weights are copied at once: the file may be changed or deleted afterwards.
        schedule: None takes the exported schedule, or "dsm" if there is none.
        dtype: float32, bfloat16 or float16. None keeps the dtype of the file.
        device: where to put the weights.
        precision: as ``VisionTransformer.precision`` takes it. None takes the exported model's.

    Raises:
        FileNotFoundError: the path does not exist, or the folder lacks a file.
        ValueError: a file cannot be read; the files do not fit each other; a weight is NaN or
            infinite; the schedule does not fit the model; or the device has no memory (meta).
        TypeError: another dtype.
        NotImplementedError: the model cannot run in the precision here, as for
            ``VisionTransformer.precision``.
    """
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dsm_ext.load: expected dtype to be a torch.dtype, got {described(dtype)}")
    text = schedule if schedule is None or isinstance(schedule, str) else "dense"
    core, info = _C.load_with_info(
        _existing(path), text, dtype, torch.device(device), check_finite=True, precision=precision
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
