"""Batches of pictures for a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dsm_ext_reader.decoding import read_image


class Batches:
    """Batches of decoded, preprocessed pictures. Unreadable ones are named on stderr and skipped.

    Iterating yields (images [b, channels, h, w], the positions of these pictures in ``paths``).
    ``skipped`` lists the paths that the latest iteration skipped.
    """

    def __init__(
        self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor], batch: int
    ) -> None:
        self.paths, self.transform, self.batch = paths, transform, batch
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[Tensor, list[int]]]:
        self.skipped = []
        tensors: list[Tensor] = []
        positions: list[int] = []
        for position, path in enumerate(self.paths):
            try:
                tensors.append(self.transform(read_image(path)))
            except (ValueError, OSError) as error:
                where = "" if str(path) in str(error) else f"{path}: "
                print(f"skipped: {where}{error}", file=sys.stderr)
                self.skipped.append(str(path))
                continue
            positions.append(position)
            if len(tensors) == self.batch:
                yield torch.stack(tensors), positions
                tensors, positions = [], []
        if tensors:
            yield torch.stack(tensors), positions
