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
    images = read_pictures(model, pictures, transform, most, hidden, "dsm_ext.tune")
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


def read_pictures(
    model: VisionTransformer,
    pictures: Any,
    transform: Callable[[Any], Tensor] | None,
    most: int,
    hidden: bool,
    caller: str,
) -> Tensor:
    """The pictures as one tensor on the CPU: the caller's tensor, or those of a folder.

    Args:
        most: of a folder with more pictures, take so many, evenly spread.
        hidden: show no progress bar.
        caller: the function that the messages of errors name.
    """
    if isinstance(pictures, Tensor):
        shape = (model.config.in_chans, *model.config.img_size)
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != shape:
            raise ValueError(
                f"{caller}: expected pictures to be [n, {', '.join(map(str, shape))}], got "
                f"{list(pictures.shape)}"
            )
        return pictures.detach()
    if isinstance(pictures, (str, os.PathLike)):
        return _read(model, Path(pictures), transform, most, hidden, caller)
    raise TypeError(
        f"{caller}: expected pictures to be a tensor or the path of a folder, got "
        f"{described(pictures)}"
    )


def _read(
    model: VisionTransformer,
    folder: Path,
    transform: Callable[[Any], Tensor] | None,
    most: int,
    hidden: bool,
    caller: str,
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
            f"{caller}: none of the {len(paths)} pictures in {folder} could be decoded"
        )
    return torch.cat(parts)
