"""Units: small pieces of the sources, each of which one worker reads alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from dsm_ext_reader.keys import key_of
from dsm_ext_reader.places import Place

# Which of some keys are known already, bool [n], such as ``KeySet.known``.
Known = Callable[[Sequence[str]], np.ndarray]

AHEAD = 16  # pictures that are read at the same time from a file system that is not local


@dataclass(frozen=True)
class Picture:
    """A picture's key, and a function that gives its encoded bytes.

    ``read`` raises OSError or ValueError, with a message for the user, where this is impossible. It
    may be called as long as its unit's iterator is not closed.
    """

    key: str
    read: Callable[[], bytes]


class Unit(Protocol):
    """A piece of the sources. It can be pickled, and is the same whenever the sources are."""

    @property
    def key(self) -> str:
        """The key of an error of the whole unit. No picture has it, except one of such an error."""
        ...

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        """Yield its pictures, always in the same order. It raises nothing.

        What cannot be read gives one picture, whose ``read`` raises and says what is lost.

        Args:
            known: leave out the pictures whose keys this knows. They are not read either.
        """
        ...


@dataclass(frozen=True)
class Files:
    """Some files below a folder.

    Attributes:
        folder: the folder.
        names: their paths below it; or texts of the user's, if ``folder`` has no name.
    """

    folder: Place
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        above = f"{self.folder.name}/" if self.folder.name else ""
        return key_of(f"{above}{self.names[0]} ... {self.names[-1]}")

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        places = [(name, resolved(self.folder, name)) for name in self.names]
        keys = [key_of(name if isinstance(place, str) else place.name) for name, place in places]
        return ahead(keys, [place for _, place in places], known)


@dataclass(frozen=True)
class Lost:
    """Something that could not be read, as one picture that tells of it."""

    key: str
    message: str

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        if known is None or not known([self.key])[0]:
            yield lost(self.key, self.message)


def lost(key: str, message: str) -> Picture:
    """A picture that cannot be read, and why."""
    return Picture(key, partial(_fail, message))


def _fail(message: str) -> bytes:
    raise ValueError(message)


def resolved(folder: Place, path: str) -> Place | str:
    """The place of what is at a path below a folder, or why it has none."""
    try:
        return folder.child(path)
    except ValueError as error:
        return str(error)


def ahead(
    keys: Sequence[str], places: Sequence[Place | str], known: Known | None
) -> Iterator[Picture]:
    """Yield the pictures at some places. In place of a place, there may be the reason for none.

    While one that is not on this machine is waited for, ``AHEAD`` others are being read too, since
    each takes many milliseconds. Closing the iterator gives up those that have not begun.

    Args:
        keys: the key of each place.
        known: leave out the pictures whose keys this knows.
    """
    skipped = known(keys) if known is not None and keys else [False] * len(keys)
    pool: ThreadPoolExecutor | None = None
    waiting: deque[Picture] = deque()
    ended = False
    try:
        for key, place, skip in zip(keys, places, skipped, strict=True):
            if skip:
                continue
            if isinstance(place, str):
                waiting.append(lost(key, place))
            elif not place.url:
                waiting.append(Picture(key, place.read))
            else:
                pool = pool or ThreadPoolExecutor(AHEAD, "dsm_ext read")
                waiting.append(Picture(key, pool.submit(place.read).result))
            if pool is None or len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        ended = True
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=not ended)
