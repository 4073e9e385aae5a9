"""The preprocessing and labels of transformers' checkpoints, converted to timm's keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm_ext.error_text import described
from dsm_ext.model.pretrained_cfg import is_number
from dsm_ext.transformers_models.files import read_json

# Pillow's numbers for its resampling filters.
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
UNLIKE_TIMM = (
    "do_flip_channel_order", "do_grayscale", "do_convert_grayscale", "do_pad", "do_thumbnail",
    "do_align_long_axis", "do_crop_margin", "offset", "max_num_patches",
)  # fmt: skip
SQUARE = ("vit", "deit")  # here one number is the size of both sides, elsewhere of the shorter one


def read_pretrained_cfg(folder: Path, num_classes: int) -> dict[str, Any] | None:
    """Read the preprocessing in preprocessor_config.json and the labels in config.json.

    Args:
        folder: a checkpoint that can be loaded.
        num_classes: the number of the model's classes.

    Returns:
        ``mean``, ``std``, ``interpolation``, ``crop_pct``, ``crop_mode``, and ``label_names`` if
        every class has a name. None if the folder does not say how to prepare pictures, or asks
        for something that timm's transform cannot do.

    Raises:
        ValueError: a file cannot be read, or a field has another type.
    """
    config = read_json(folder / "config.json")
    wrapped = config.get("pretrained_cfg")
    if config.get("model_type") == "timm_wrapper" and isinstance(wrapped, dict):
        if wrapped.get("mean") is None or wrapped.get("std") is None:
            return None
        labels = config.get("label_names")
        if not labels or labels == _placeholders(num_classes):
            return wrapped
        return wrapped | {"label_names": labels}
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        content = read_json(path)
        if isinstance(content.get("image_processor"), dict):
            content = content["image_processor"]
        if "image_mean" in content or "do_normalize" in content:
            cfg = _transform(path, content, str(config.get("model_type")))
            names = _labels(config, num_classes)
            return cfg if cfg is None or names is None else cfg | {"label_names": names}
    return None


def _transform(path: Path, content: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    square = kind in SQUARE
    if any(content.get(name) for name in UNLIKE_TIMM):
        return None
    if not (_flag(path, content, "do_resize") and _flag(path, content, "do_rescale")):
        return None
    factor = content.get("rescale_factor", 1 / 255)
    if not is_number(factor) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        return None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if _flag(path, content, "do_normalize"):
        if content.get("image_mean") is None or content.get("image_std") is None:
            return None
        mean, std = (_numbers(path, content, name) for name in ("image_mean", "image_std"))
    scaled, square = _size(path, content, "size", square)
    cropped = scaled
    if _flag(path, content, "do_center_crop", default=content.get("crop_size") is not None):
        cropped, _ = _size(path, content, "crop_size", True)
    elif not square:
        return None  # the longer side would keep its length
    resample = content.get("resample", 2 if kind == "vit" else 3)
    if type(resample) is not int or resample not in INTERPOLATIONS:
        raise _wrong(path, "resample", resample)
    return {
        "mean": mean,
        "std": std,
        "interpolation": INTERPOLATIONS[resample],
        "crop_pct": _crop_pct(cropped, scaled),
        "crop_mode": "squash" if square else "center",
    }


def _size(path: Path, content: Mapping[str, Any], name: str, square: bool) -> tuple[int, bool]:
    """A size in pixels, and whether it is that of both sides (True) or of the shorter side."""
    value = content.get(name)
    if isinstance(value, dict) and "shortest_edge" in value:
        value, square = value["shortest_edge"], False
    elif isinstance(value, dict) and value.get("height") == value.get("width"):
        value, square = value.get("height"), True
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 16:
        raise _wrong(path, name, content.get(name))
    return value, square


def _crop_pct(cropped: int, scaled: int) -> float:
    """A share for which timm's ``floor(cropped / share)`` is ``scaled`` again."""
    share = cropped / scaled
    return share if math.floor(cropped / share) == scaled else math.nextafter(share, 0)


def _flag(path: Path, content: Mapping[str, Any], name: str, default: bool = True) -> bool:
    value = content.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong(path, name, value)
    return value


def _numbers(path: Path, content: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = content[name]
    usable = isinstance(values, list) and len(values) in (1, 3) and all(map(is_number, values))
    if not usable or (name == "image_std" and min(values) < 1e-6):
        raise _wrong(path, name, values)
    return tuple(float(value) for value in values)


def _wrong(path: Path, name: str, value: Any) -> ValueError:
    return ValueError(f"dsm_ext: {path}: {name!r} cannot be {described(value)}")


def _labels(config: Mapping[str, Any], num_classes: int) -> list[str] | None:
    """The names in ``id2label``. None if they are the placeholders LABEL_0, LABEL_1, ..."""
    names = config.get("id2label")
    if not isinstance(names, Mapping) or len(names) != num_classes or num_classes == 0:
        return None
    try:
        ordered = [names[str(i)] if str(i) in names else names[i] for i in range(num_classes)]
    except KeyError:
        return None
    if ordered == _placeholders(num_classes):
        return None
    return [str(name) for name in ordered]


def _placeholders(num_classes: int) -> list[str]:
    """The names that transformers gives classes without names."""
    return [f"LABEL_{i}" for i in range(num_classes)]
