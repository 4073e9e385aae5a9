"""The pictures that a command was given, read and prepared for the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from dsm_ext.images import read_image


class PreparedPictures:
    """Reads and prepares pictures. Unusable ones are named on stderr, skipped and counted.

    Args:
        transform: from a PIL image to the model's input [channels, height, width].
    """

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self.transform = transform
        self.read = self.failed = 0

    def prepare(self, paths: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield the path and the model's input of each usable picture."""
        for path in paths:
            self.read += 1
            try:
                image = self._prepare(path)
            except (ValueError, OSError) as error:
                print(f"skipped: {error}", file=sys.stderr)
                self.failed += 1
                continue
            yield path, image

    def _prepare(self, path: str) -> Tensor:
        picture = read_image(path)
        try:
            return self.transform(picture)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def status(self) -> int:
        """The command's exit status: 1 if some pictures were unusable, which stderr then says."""
        if self.failed:
            print(f"{self.failed} of {self.read} pictures could not be used", file=sys.stderr)
        return 1 if self.failed else 0
