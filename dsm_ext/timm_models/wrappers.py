"""Removing torch's and timm's wrappers from timm models, and refusing other kinds of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dsm_ext.error_text import described
from dsm_ext.model import VisionTransformer

# Wrappers that compute the same as their inner model, and the attribute with the inner model.
_WRAPPERS = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
    ("timm.utils.model_ema", "ModelEmaV2"): "module",
    ("timm.utils.model_ema", "ModelEmaV3"): "module",
}


def unwrapped(model: Any) -> nn.Module:
    """The model without torch's and timm's wrappers.

    Raises:
        TypeError: not a module, or not of timm's kind. The message says what to pass instead.
        NotImplementedError: a wrapper with hooks, or sharded weights.
    """
    while isinstance(model, nn.Module):
        inner = _WRAPPERS.get((type(model).__module__, type(model).__name__))
        if inner is None:
            break
        if model._forward_hooks or model._forward_pre_hooks:
            raise NotImplementedError(
                f"dsm_ext.from_timm: a {type(model).__name__} with forward hooks is not "
                f"supported; give its .{inner}"
            )
        model = getattr(model, inner)
    if not isinstance(model, nn.Module):
        raise TypeError(
            "dsm_ext.from_timm: expected a timm model or its name, got "
            f"{described(model)}{_advice(model)}"
        )
    _refuse_others(model)
    return model


def _advice(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "; build timm's model and load the state dict into it "
            "(timm.create_model(NAME), load_state_dict), or give the name and weights=FILE"
        )
    if isinstance(value, type) and issubclass(value, nn.Module):
        return "; give an instance of it"
    inner = next((n for n in ("module", "ema") if isinstance(_held(value, n), nn.Module)), None)
    if inner is not None:
        return f"; give its .{inner}"
    if callable(value):
        return "; give the model that it makes"
    if hasattr(value, "__fspath__"):
        return "; give timm's name of the model, and the file as weights="
    return ""


def _held(value: Any, name: str) -> Any:
    return getattr(value, "__dict__", {}).get(name)


def _refuse_others(model: nn.Module) -> None:
    if isinstance(model, VisionTransformer):
        raise TypeError(
            "dsm_ext.from_timm: expected a timm model or its name, got a dsm_ext.VisionTransformer,"
            " which is already compiled; assign its schedule, copy it with copy.deepcopy, or"
            " convert it with .to()"
        )
    if isinstance(model, (torch.jit.ScriptModule, torch.fx.GraphModule)):
        kind = "scripted or traced" if isinstance(model, torch.jit.ScriptModule) else "traced"
        raise TypeError(
            f"dsm_ext.from_timm: expected a timm model or its name, got {described(model)}, a "
            f"{kind} module; give the timm model that it was made of"
        )
    sharded = type(model).__name__ == "FullyShardedDataParallel"
    if sharded or any(type(p).__name__ == "DTensor" for p in model.parameters()):
        raise NotImplementedError(
            "dsm_ext.from_timm: weights that are sharded over several processes are not supported; "
            "gather the whole state dict and load it into timm's model"
        )
