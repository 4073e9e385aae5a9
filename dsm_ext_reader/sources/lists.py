"""Pictures that a text file lists, one path or URL on each line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from dsm_ext_reader.keys import key_of
from dsm_ext_reader.places import Place, reason
from dsm_ext_reader.units import Files, Lost, Unit

LONGEST = 2**16  # bytes of a line; a path has at most 4096
BLOCK = 2**16
MARK = b"\xef\xbb\xbf"  # some editors begin a text file with it


def listed(place: Place, size: int) -> Iterator[Unit]:
    """Yield the pictures of a list in units of ``size``.

    A line is taken as it is: it may have spaces, or bytes that are not UTF-8. Lines may end as on
    Windows. Blank ones are passed over. Relative paths start at the current folder; of a list that
    is not on this machine, at its folder.
    """
    folder = place.parent()
    names: list[str] = []
    failure = None
    try:
        for name in _names(place):
            names.append(name)
            if len(names) == size:
                yield Files(folder, tuple(names))
                names = []
    except (OSError, ValueError) as error:
        failure = Lost(key_of(place.name), str(error))
    if names:
        yield Files(folder, tuple(names))
    if failure:
        yield failure


def count(place: Place) -> int | None:
    """The number of pictures of a list. None if it cannot be read."""
    try:
        return sum(1 for _ in _names(place))
    except (OSError, ValueError):
        return None


def _names(place: Place) -> Iterator[str]:
    number = 0
    with place.open(stream=True) as file:
        for number, line in enumerate(_lines(file, place), 1):
            if number == 1:
                line = line.removeprefix(MARK)
            if len(line) > LONGEST:
                break
            if line.strip():
                yield os.fsdecode(line.removesuffix(b"\r"))
        else:
            return
    raise ValueError(
        f"dsm_ext: {place.shown} is no list of paths: its line {number} has more than {LONGEST} "
        "bytes. What follows is lost"
    )


def _lines(file: BinaryIO, place: Place) -> Iterator[bytes]:
    """The lines of a file without their ends. One that is too long is the last."""
    left = b""
    while True:
        try:
            block = file.read(BLOCK)
        except Exception as error:  # file systems raise types of their own
            raise OSError(f"dsm_ext: {place.shown} cannot be read: {reason(error)}") from error
        if not block:
            break
        *lines, left = (left + block).split(b"\n")
        yield from lines
        if len(left) > LONGEST:
            break
    if left:
        yield left
