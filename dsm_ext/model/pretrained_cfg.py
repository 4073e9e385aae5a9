"""Preprocessing and class labels of a model, in a dict that timm calls ``pretrained_cfg``.

Nothing is guessed: if a model's files do not say how to prepare pictures, it has no such dict.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from dsm_ext._native import Config, ModelInfo
from dsm_ext.error_text import described

CROP_MODES = ("center", "squash", "border")
LABELS = ("label_names", "label_descriptions")


class UnknownCfg(Mapping[str, Any]):
    """The ``pretrained_cfg`` of a model without one. Reading it raises ValueError and says so."""

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "dsm_ext.VisionTransformer: how pictures are prepared for this model is not known: "
            'assign it, such as model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": '
            '(0.5, 0.5, 0.5), "interpolation": "bicubic", "crop_pct": 0.9}'
        )

    def __getitem__(self, key: str) -> Any:
        self._refuse()

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __repr__(self) -> str:
        return "<unknown>"


def fit_cfg(cfg: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Copy a ``pretrained_cfg`` and fit it to a model's image size and number of channels.

    A single number in ``mean`` or ``std`` is used for all channels. If the numbers are for another
    number of channels, their mean is used for all channels.

    Raises:
        TypeError: not a mapping.
        ValueError: ``mean`` or ``std`` is missing, has another length or an unusable value; or
            ``crop_pct`` or ``crop_mode`` is not valid in timm.
    """
    if not isinstance(cfg, Mapping):
        raise TypeError(
            "dsm_ext.VisionTransformer: expected pretrained_cfg to be a dict of timm's keys, got "
            f"{described(cfg)}"
        )
    fitted = copy.deepcopy(dict(cfg))
    for name in ("mean", "std"):
        fitted[name] = _by_channel(name, fitted.get(name), config.in_chans)
    crop = fitted.get("crop_pct")
    if crop is not None and not (is_number(crop) and crop > 0):
        raise _wrong("crop_pct", "a positive number", crop)
    mode = fitted.get("crop_mode")
    if mode is not None and mode not in CROP_MODES:
        raise _wrong("crop_mode", f"one of {', '.join(CROP_MODES)}", mode)
    fitted["input_size"] = (config.in_chans, *config.img_size)
    if config.num_classes != fitted.setdefault("num_classes", config.num_classes):
        return without_labels(fitted, config)
    return fitted


def _by_channel(name: str, given: Any, channels: int) -> tuple[float, ...]:
    values = given.tolist() if hasattr(given, "tolist") else given
    good = isinstance(values, Sequence) and len(values) in {1, 3, channels}
    if not good or not all(is_number(v) and (v > 0 or name == "mean") for v in values):
        raise _wrong(name, f"a number for each of the {channels} channels", given)
    if len(values) != channels:
        values = [sum(values) / len(values)] * channels
    return tuple(float(value) for value in values)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number and not a bool."""
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _wrong(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"dsm_ext.VisionTransformer: expected {name!r} of pretrained_cfg to be {expected}, got "
        f"{described(value)}"
    )


def without_labels(cfg: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Copy a ``pretrained_cfg`` for a head with other classes than the checkpoint's."""
    lost = ("label_names", "label_descriptions", "label_offset", "tag")
    return {k: v for k, v in cfg.items() if k not in lost} | {"num_classes": config.num_classes}


def cfg_of_timm(model: Any, config: Config) -> dict[str, Any] | None:
    """The ``pretrained_cfg`` of timm's model. None if it has none or an unusable one."""
    cfg = getattr(model, "pretrained_cfg", None)
    try:
        return fit_cfg(cfg, config) if isinstance(cfg, Mapping) else None
    except ValueError:
        return None


def cfg_of_info(info: ModelInfo, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ``pretrained_cfg`` that a model's folder gives. None if mean and std are unknown.

    Args:
        content: the folder's config.json.
    """
    p = info.preprocessing
    if not p.known:
        return None
    given = content.get("pretrained_cfg")
    checkpoint = given if isinstance(given, Mapping) else content
    cfg: dict[str, Any] = {
        "tag": checkpoint.get("tag"),
        "mean": p.mean,
        "std": p.std,
        "interpolation": p.interpolation,
        "crop_pct": p.crop_pct,
        "crop_mode": p.crop_mode,
    }
    if info.architecture:
        cfg["architecture"] = info.architecture
    for source in (checkpoint, content):  # the later one wins, as in timm
        for key, name in (("labels", "label_names"), *((n, n) for n in LABELS)):
            if source.get(key):
                cfg[name] = source[key]
    return fit_cfg(cfg, info.config)
