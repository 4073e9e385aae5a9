"""transformers' models that hold a model of timm: ``timm_wrapper`` and ``perception_lm``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dsm_ext.error_text import described, listed
from dsm_ext.timm_models.create import shape_of
from dsm_ext.transformers_models.architecture import Architecture

KINDS = ("timm_wrapper", "perception_lm")

_PREFIX = re.compile(r"(model\.)?(vision_tower\.)?timm_model\.")
_MOST = 1 << 16  # the largest number that an argument may be
_MOST_DEPTH = 256


def image_part(name: str) -> str | None:
    """timm's name of a tensor of the image model. None for a tensor of the text model."""
    match = _PREFIX.match(name)
    return None if match is None else name[match.end() :]


def read_arguments(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read timm's name of the model and the arguments that make it.

    Raises:
        ValueError: a value has another type or is out of range. The message names its key.
        NotImplementedError: timm's model is not supported, or takes no such argument.
    """
    whole = config["model_type"]
    vision = config.get("vision_config") if whole == "perception_lm" else config
    if not isinstance(vision, Mapping) or (
        whole == "perception_lm" and vision.get("model_type") != "timm_wrapper"
    ):
        raise ValueError(
            f"dsm_ext: transformers' {whole}: expected vision_config in its config to be one of "
            f"timm_wrapper, got {described(vision)}"
        )
    name, given = vision.get("architecture"), vision.get("model_args")
    if not isinstance(name, str) or not timm.is_model(name):
        raise ValueError(
            f"dsm_ext: transformers' {whole}: expected architecture in its config to be the name "
            f"of a model of timm, got {described(name)}"
        )
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(
            f"dsm_ext: transformers' {whole}: expected model_args in its config to be an object, "
            f"got {described(given)}"
        )
    arguments = {}
    for key, value in (given or {}).items():
        if key not in _known_arguments() or not _is_plain(value):
            raise NotImplementedError(
                f"dsm_ext: transformers' {whole} with {described(key)}: {described(value)} in its "
                "model_args is not supported"
            )
        if key == "depth" and not (isinstance(value, int) and 1 <= value <= _MOST_DEPTH):
            raise ValueError(
                f"dsm_ext: transformers' {whole}: expected depth in its model_args to be in [1, "
                f"{_MOST_DEPTH}], got {described(value)}"
            )
        if key != "num_classes":  # the tensors show it
            arguments[key] = tuple(value) if isinstance(value, list) else value
    return name, arguments


def wrapped_to_timm(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Tensor]]:
    """Take timm's model out of a checkpoint of transformers.

    Args:
        state: the tensors by the checkpoint's names.
        config: config.json, of a model_type in ``KINDS``.

    Returns:
        How timm makes the model, and the tensors by timm's names.

    Raises:
        NotImplementedError: timm's model is not supported. The message names the feature.
        ValueError: as ``read_arguments``; or the tensors do not fit the model.
    """
    name, arguments = read_arguments(config)
    given = {new: tensor for old, tensor in state.items() if (new := image_part(old)) is not None}
    head = given.get("head.weight")
    arguments["num_classes"] = 0 if head is None or head.ndim != 2 else len(head)
    own = shape_of(name, arguments).state_dict()
    faults = {
        "missing": sorted(own.keys() - given.keys()),
        "unexpected": sorted(given.keys() - own.keys()),
        "misshapen": [
            f"{key} {list(given[key].shape)} (expected {list(tensor.shape)})"
            for key, tensor in own.items()
            if key in given and given[key].shape != tensor.shape
        ],
    }
    found = "; ".join(f"{fault} {listed(names)}" for fault, names in faults.items() if names)
    if found:
        raise ValueError(
            f"dsm_ext: the tensors are not those of timm's {name} with this config: {found}"
        )
    return Architecture(partial(timm.create_model, name), arguments), given


def _known_arguments() -> set[str]:
    """The arguments of timm's models. Others of ``timm.create_model`` could read any file."""
    makers = (VisionTransformer.__init__, Eva.__init__)
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    return names - {"self", "device", "dtype", "weight_init"}


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a pair of numbers, a name, true, false or null."""
    if isinstance(value, list):
        return len(value) == 2 and all(_is_plain(v) and not isinstance(v, list) for v in value)
    if isinstance(value, (int, float)):
        return -_MOST <= value <= _MOST
    return value is None or isinstance(value, str)
