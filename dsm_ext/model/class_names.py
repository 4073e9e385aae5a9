"""The names of a model's classes, from its ``pretrained_cfg``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# ImageNet-1k in the last part of a timm tag. That part names the data of the last training.
IMAGENET_1K = re.compile(r"(^|[^a-z])in1k($|[^a-z0-9])")


def label_names(cfg: Mapping[str, Any] | None, num_classes: int) -> list[str] | None:
    """The checkpoint's names for the classes, such as WordNet ids.

    If the checkpoint has no names and timm's tag says that it was last trained on ImageNet-1k, the
    names are ImageNet-1k's.

    Returns:
        None if the names are unknown or there are not exactly ``num_classes`` of them.
    """
    if cfg is None:
        return None
    names = cfg.get("label_names")
    if isinstance(names, Mapping):
        by_index = {str(index): name for index, name in names.items()}
        names = [by_index.get(str(i)) for i in range(len(by_index))]
        names = None if None in names else names
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        names = None
    if not names and num_classes == 1000 and IMAGENET_1K.search(_data_set(cfg)):
        from timm.data import ImageNetInfo

        names = ImageNetInfo().label_names()
    return [str(name) for name in names] if names and len(names) == num_classes else None


def _data_set(cfg: Mapping[str, Any]) -> str:
    """The last part of a tag such as ``augreg_in21k_ft_in1k``: ``in1k``."""
    return str(cfg.get("tag") or "").rpartition("_ft_")[2]


def class_names(cfg: Mapping[str, Any] | None, num_classes: int) -> list[str] | None:
    """The readable names of the classes: their descriptions, else their label names."""
    names = label_names(cfg, num_classes)
    if cfg is None or names is None:
        return None
    descriptions = cfg.get("label_descriptions")
    if not isinstance(descriptions, Mapping):
        descriptions = {}
    if not cfg.get("label_names"):
        from timm.data import ImageNetInfo

        info = ImageNetInfo()
        descriptions = {name: info.label_name_to_description(name) for name in names}
    return [str(descriptions.get(name, name)) for name in names]
