"""Opening the model of a ``Predictor``: a name of timm's, a folder, a file, or a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dsm_ext._native import Schedule
from dsm_ext.error_text import described
from dsm_ext.model import VisionTransformer
from dsm_ext.model.load import CONFIG, WEIGHTS, load
from dsm_ext.timm_models.from_timm import from_timm
from dsm_ext.timm_models.names import path_named
from dsm_ext.transformers_models.files import read_json
from dsm_ext.transformers_models.from_transformers import from_transformers

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_model(
    model: str | os.PathLike[str] | nn.Module,
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    schedule: Schedule | str | None = None,
    precision: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> VisionTransformer:
    """Open a model that the caller may change: no other model sees the changes.

    Args:
        model: a timm name, with ``weights`` or ``pretrained``; a folder of ``export``, of the model
            hub or of transformers; the model.safetensors of ``export``; or a model of timm's or
            dsm_ext's, whose weights are shared.
        schedule: None takes that of the folder or the model, or "dsm" if there is none.
        precision: as for ``VisionTransformer.precision``. None takes that of the folder or model.
        dtype: a dtype or its name. None keeps the file's or the model's.
        options: further arguments of ``from_timm`` for a timm name, such as ``img_size``.

    Raises:
        ValueError: a timm name has no weights, or an argument for a timm name is given with another
            model; or as ``from_timm``, ``load`` and ``from_transformers``.
        FileNotFoundError: the folder or a file does not exist.
        TypeError, NotImplementedError: as ``from_timm`` and ``load``.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise ValueError(
                f"dsm_ext.Predictor: expected dtype to be one of {', '.join(DTYPES)}, got {dtype!r}"
            )
        dtype = DTYPES[dtype]
    named = {"weights": weights, "pretrained": pretrained or None, **options}
    named = {name: value for name, value in named.items() if value is not None}
    of_all: dict[str, Any] = {"precision": precision, "dtype": dtype, "device": device}
    if isinstance(model, nn.Module):
        _refuse(named, described(model))
        return _of_module(model, schedule, **of_all)
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            "dsm_ext.Predictor: expected model to be a name, a path or a model, got "
            f"{described(model)}"
        )
    path = path_named(os.fspath(model))
    if path is None:
        return from_timm(
            os.fspath(model), "dsm" if schedule is None else schedule, **named, **of_all
        )
    _refuse(named, str(path))
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(
            f"dsm_ext.Predictor: expected a timm name, a folder, or the {WEIGHTS} of "
            f"dsm_ext.export, got the file {path}; the weights of a timm model are given as weights"
        )
    if _is_of_transformers(path):
        return from_transformers(path, "dsm" if schedule is None else schedule, **of_all)
    return load(path, schedule, **of_all)


def _refuse(named: dict[str, Any], model: str) -> None:
    if named:
        raise ValueError(
            f"dsm_ext.Predictor: {model} has its own weights and shape: drop {', '.join(named)}, "
            "which go with a timm name"
        )


def _is_of_transformers(path: Path) -> bool:
    """Whether a folder is a checkpoint of transformers. Folders of timm's have no model_type."""
    return (path / CONFIG).is_file() and "model_type" in read_json(path / CONFIG)


def _of_module(
    model: nn.Module,
    schedule: Schedule | str | None,
    precision: str | None,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> VisionTransformer:
    if not isinstance(model, VisionTransformer):
        return from_timm(
            model,
            "dsm" if schedule is None else schedule,
            precision=precision,
            dtype=dtype,
            device=device,
        )
    if model._core.frozen:
        raise ValueError(
            "dsm_ext.Predictor: expected a model with its weights, got a frozen one, which has "
            "freed them"
        )
    config = model.config  # takes over a head that the user replaced
    state = {
        name: tensor.detach().to(device=device, dtype=dtype)
        for name, tensor in model.named_parameters(remove_duplicate=False)
    }
    own = VisionTransformer(config, model.schedule if schedule is None else schedule, state)
    own._core.cpu_path, own._core.cuda_graphs = model.cpu_path, model.cuda_graphs
    own._pretrained_cfg, own._model_args = model._pretrained_cfg, model._model_args
    if precision is None:
        precision = model._core.chosen_precision
    if precision is not None:
        own.precision = precision
    return own
