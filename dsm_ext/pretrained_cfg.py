"""What is known of a model beside its weights, by timm's keys: preprocessing and labels.

timm calls such a dictionary a ``pretrained_cfg``. Nothing is guessed: where a model comes from
somewhere that does not say how pictures were prepared, there is none.
"""

from __future__ import annotations

import copy
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dsm_ext._native import Config, ModelInfo


class UnknownCfg(Mapping[str, Any]):
    """Stands where nothing is known; whoever looks into it gets a ValueError that says so."""

    def __getitem__(self, key: str) -> Any:
        raise ValueError(
            "dsm_ext.VisionTransformer: how pictures are prepared for this model is not known: "
            'assign it, such as model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": '
            '(0.5, 0.5, 0.5), "interpolation": "bicubic", "crop_pct": 0.9}'
        )

    def __iter__(self) -> Iterator[str]:
        return self[""]

    def __len__(self) -> int:
        return self[""]

    def __repr__(self) -> str:
        return "<unknown>"


IMAGENET_1K = re.compile(r"(^|[^a-z])in1k($|[^a-z0-9])")  # as the last data set in a tag of timm's


def fit_cfg(cfg: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A copy for a model's own images: their size, and a mean and deviation for each channel.

    Of a checkpoint for another number of channels, each channel gets the mean over its channels.

    Raises:
        ValueError: ``mean`` or ``std`` is missing, or they have different lengths.
    """
    fitted = copy.deepcopy(dict(cfg))
    for name in ("mean", "std"):
        values = fitted.get(name)
        if not isinstance(values, Sequence) or not values:
            raise ValueError(
                f"dsm_ext.VisionTransformer: expected pretrained_cfg to have {name!r}, a number "
                f"for each of the {config.in_chans} channels, got {reprlib.repr(values)}"
            )
        if len(values) != config.in_chans:
            values = [sum(values) / len(values)] * config.in_chans
        fitted[name] = tuple(float(value) for value in values)
    fitted["input_size"] = (config.in_chans, *config.img_size)
    if config.num_classes != fitted.setdefault("num_classes", config.num_classes):
        return without_labels(fitted, config)
    return fitted


def without_labels(cfg: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A copy for a classifier of other classes than the checkpoint's."""
    lost = ("label_names", "label_descriptions", "label_offset", "tag")
    return {k: v for k, v in cfg.items() if k not in lost} | {"num_classes": config.num_classes}


def cfg_of_timm(model: Any, config: Config) -> dict[str, Any] | None:
    """What timm's model says; None where timm did not make it by a name."""
    cfg = getattr(model, "pretrained_cfg", None)
    if not isinstance(cfg, Mapping) or not (cfg.get("mean") and cfg.get("std")):
        return None
    return fit_cfg(cfg, config)


def cfg_of_info(info: ModelInfo, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a model's folder says.

    Args:
        content: its config.json.
    """
    p = info.preprocessing
    if not p.known:
        return None
    given = content.get("pretrained_cfg")
    cfg = {
        "tag": given.get("tag") if isinstance(given, Mapping) else content.get("tag"),
        "mean": p.mean,
        "std": p.std,
        "interpolation": p.interpolation,
        "crop_pct": p.crop_pct,
        "crop_mode": p.crop_mode,
    }
    if info.architecture:
        cfg["architecture"] = info.architecture
    if info.labels:
        cfg["label_names"] = info.labels
    return fit_cfg(cfg, info.config)


def label_names(cfg: Mapping[str, Any] | None, num_classes: int) -> list[str] | None:
    """The names of the classes as the checkpoint has them, such as WordNet ids.

    ImageNet-1k's are taken where a tag of timm's says that the model was trained on it last.

    Returns:
        None where they are not known, or where there are more or fewer than ``num_classes``.
    """
    if cfg is None:
        return None
    names = cfg.get("label_names") or cfg.get("labels")
    if isinstance(names, Mapping):  # by index
        names = [names[i] for i in sorted(names, key=int)]
    if not names and num_classes == 1000 and IMAGENET_1K.search(_data_set(cfg)):
        from timm.data import ImageNetInfo

        names = ImageNetInfo().label_names()
    return list(names) if names and len(names) == num_classes else None


def _data_set(cfg: Mapping[str, Any]) -> str:
    """The last part of a tag such as ``augreg_in21k_ft_in1k``."""
    return str(cfg.get("tag") or "").rpartition("_ft_")[2]


def class_names(cfg: Mapping[str, Any] | None, num_classes: int) -> list[str] | None:
    """The names of the classes for people: what describes them, where something does."""
    names = label_names(cfg, num_classes)
    if cfg is None or names is None:
        return None
    descriptions: Mapping[str, str] = cfg.get("label_descriptions") or {}
    if not cfg.get("label_names"):
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        descriptions = {name: info.label_name_to_description(name) for name in names}
    return [str(descriptions.get(name, name)) for name in names]
