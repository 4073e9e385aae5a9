"""Folders of pictures: finding, labelling, decoding."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
WORDNET_ID = re.compile(r"n\d{8}")


def find_images(folder: str | Path) -> list[Path]:
    """The pictures below a folder, in order.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {folder}")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"dsm_ext: no pictures in {folder}")
    return found


def label_images(paths: Sequence[Path], folder: str | Path, num_classes: int) -> list[int]:
    """The class of each picture.

    For 1000 classes a file or its folder named by a WordNet id (n01440764...) gives the ImageNet-1k
    class; otherwise the folders below ``folder``, in the order of their names, are the classes, as
    in ImageFolder.

    Raises:
        ValueError: pictures without a label (the first is named), or more folders than classes.
    """
    from timm.data import ImageNetInfo

    names = ImageNetInfo().label_names() if num_classes == 1000 else []
    wordnet = {name: i for i, name in enumerate(names)}
    tops = [p.relative_to(folder).parts for p in paths]
    classes = {name: i for i, name in enumerate(sorted({t[0] for t in tops if len(t) > 1}))}
    labels: list[int] = []
    for path, parts in zip(paths, tops, strict=True):
        ids = [m.group() for part in reversed(parts) if (m := WORDNET_ID.match(part))]
        known = next((wordnet[i] for i in ids if i in wordnet), None)
        if known is None and len(parts) > 1 and not (wordnet and ids):
            known = classes[parts[0]]
        if known is None:
            raise ValueError(
                f"dsm_ext: no label for {path}: expected a WordNet id in its name, or a folder for "
                "each class"
            )
        if known >= num_classes:
            raise ValueError(
                f"dsm_ext: {folder} has {len(classes)} folders, the model {num_classes} classes"
            )
        labels.append(known)
    return labels


def transform_for(model: Any) -> Callable[[Image.Image], Tensor]:
    """The preprocessing that a timm model's config asks for: PIL image to [channels, h, w].

    The crop is the model's own image size, whatever its config says.
    """
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config({}, model=model)
    height, width = model.patch_embed.img_size
    config["input_size"] = (config["input_size"][0], height, width)
    return create_transform(**config, is_training=False)


def read_image(path: str | Path) -> Image.Image:
    """Decode a picture as RGB.

    Raises:
        ValueError: it cannot be decoded; the message names it.
        FileNotFoundError: no such file.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"dsm_ext: no such picture: {path}") from None
    except Exception as error:  # PIL's decoders raise many kinds, SyntaxError among them
        raise ValueError(f"dsm_ext: {path} cannot be decoded: {error}") from error


class Batches:
    """Decoded, preprocessed batches; pictures that cannot be decoded are named, skipped, counted.

    Iterating gives (images [b, channels, h, w], positions of these pictures in ``paths``).
    """

    def __init__(
        self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor], batch: int
    ) -> None:
        self.paths, self.transform, self.batch = paths, transform, batch
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[Tensor, list[int]]]:
        tensors: list[Tensor] = []
        positions: list[int] = []
        for position, path in enumerate(self.paths):
            try:
                tensors.append(self.transform(read_image(path)))
            except ValueError as error:
                print(f"skipped: {error}", file=sys.stderr)
                self.skipped.append(str(path))
                continue
            positions.append(position)
            if len(tensors) == self.batch:
                yield torch.stack(tensors), positions
                tensors, positions = [], []
        if tensors:
            yield torch.stack(tensors), positions
