"""The preprocessing of OpenCLIP's models, converted to timm's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_CROP_MODES = {"shortest": "center", "squash": "squash"}


def pretrained_cfg(tower: nn.Module) -> dict[str, Any] | None:
    """``mean``, ``std``, ``interpolation``, ``crop_pct`` and ``crop_mode`` of a tower.

    Returns:
        None if the tower has no ``preprocess_cfg``, or one that timm's transform cannot follow.
    """
    cfg = getattr(tower, "preprocess_cfg", None)
    if not isinstance(cfg, Mapping) or "mean" not in cfg or "std" not in cfg:
        return None
    mode, interpolation = cfg.get("resize_mode", "shortest"), cfg.get("interpolation", "bicubic")
    if mode not in _CROP_MODES or interpolation not in ("bicubic", "bilinear"):
        return None
    return {
        "mean": tuple(cfg["mean"]),
        "std": tuple(cfg["std"]),
        "interpolation": interpolation,
        "crop_pct": 1.0,
        "crop_mode": _CROP_MODES[mode],
    }
