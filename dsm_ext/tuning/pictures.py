"""The pictures that tune a schedule, read and prepared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext.error_text import described
from dsm_ext.images import Batches, find_images
from dsm_ext.model import VisionTransformer
from dsm_ext_reader.folders import report

FEW_PICTURES = 16  # with fewer, the halves say next to nothing


def prepared(
    model: VisionTransformer,
    pictures: Any,
    transform: Callable[[Any], Tensor] | None,
    most: int,
    hidden: bool,
) -> Tensor:
    """The pictures as one tensor on the CPU, and a word on stderr if they are few."""
    if isinstance(pictures, Tensor):
        shape = (model.config.in_chans, *model.config.img_size)
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != shape:
            raise ValueError(
                f"dsm_ext.tune: expected pictures to be [n, {', '.join(map(str, shape))}], got "
                f"{list(pictures.shape)}"
            )
        images = pictures.detach()
    elif isinstance(pictures, (str, os.PathLike)):
        images = _read(model, Path(pictures), transform, most, hidden)
    else:
        raise TypeError(
            "dsm_ext.tune: expected pictures to be a tensor or the path of a folder, got "
            f"{described(pictures)}"
        )
    if len(images) < 2:
        raise ValueError(
            "dsm_ext.tune: expected two pictures or more, one to choose and one to judge, got "
            f"{len(images)}"
        )
    if len(images) < FEW_PICTURES:
        report(
            f"with {len(images)} pictures, fewer than {FEW_PICTURES}, the judgement is noise: "
            "give some hundreds"
        )
    return images


def _read(
    model: VisionTransformer,
    folder: Path,
    transform: Callable[[Any], Tensor] | None,
    most: int,
    hidden: bool,
) -> Tensor:
    from tqdm import tqdm

    paths = find_images(folder)
    if len(paths) > most:
        report(f"{most} of the {len(paths)} pictures in {folder} are used")
        paths = [paths[i * len(paths) // most] for i in range(most)]
    if transform is None:
        from dsm_ext.images import transform_for

        transform = transform_for(model)
    batches = Batches(paths, transform, 64)
    parts = []
    with tqdm(total=len(paths), unit="picture", desc="read", disable=hidden) as bar:
        for images, _ in batches:
            parts.append(images)
            bar.update(len(images))
    if batches.skipped:
        report(
            f"{len(batches.skipped)} of {len(paths)} pictures could not be read and are left out"
        )
    if not parts:
        raise ValueError(
            f"dsm_ext.tune: none of the {len(paths)} pictures in {folder} could be decoded"
        )
    return torch.cat(parts)
