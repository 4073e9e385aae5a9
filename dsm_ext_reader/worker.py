"""The process that reads and decodes pictures for a ``DecodingPool``.

It gets a ``Setup`` first, then units as ``Task``s, and numbers of slots that are free again. It
sends a ``Row`` for each picture, whose pixels are in the next slot of the memory it shares with
its parent, and None at the end of each unit.
"""

from __future__ import annotations

import mmap
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsm_ext_reader.decoding import decode
from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.resizing import Resizing
from dsm_ext_reader.units import Picture, Unit

HEADER = 64  # bytes before the slots: two int64, `serial` and `position` of the picture being read
IDLE = -1  # the value of `position` while no picture is being read


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know, its first message."""

    resizing: Resizing
    max_pixels: int | None
    slots: int
    done: KeySet | None
    """Pictures with these keys are left out."""


class Task(NamedTuple):
    """A unit to read."""

    unit: Unit
    skip: int = 0
    """How many of its pictures that are not done are finished: an earlier worker sent them."""
    failed: str | None = None
    """Why the first picture after these cannot be read, if an earlier worker ended at it."""


class Row(NamedTuple):
    """A picture that a worker has read."""

    key: str
    error: str | None
    """None: the pixels are in the next slot."""


class SharedPixels:
    """The memory that a worker and its parent share: a header, then slots for pixels."""

    def __init__(self, fd: int, resizing: Resizing, slots: int) -> None:
        shape = (slots, resizing.height, resizing.width, resizing.channels)
        size = HEADER + int(np.prod(shape))
        if os.fstat(fd).st_size != size:
            os.ftruncate(fd, size)
        self._memory = mmap.mmap(fd, size)
        self.header = np.frombuffer(self._memory, np.int64, 2)
        self.pixels = np.frombuffer(self._memory, np.uint8, offset=HEADER).reshape(shape)


def run(connection: Connection, fd: int) -> None:
    """Read and decode until the connection ends."""
    os.nice(10)  # the model's threads wait for one another: none of them should wait for us
    Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own
    Image.init()
    _be_quiet()
    _Worker(connection, connection.recv(), fd).run()


def _be_quiet() -> None:
    """Drop what Pillow and its C libraries say about damaged pictures: their rows have errors.

    What Python says when this process fails is still seen.
    """
    warnings.simplefilter("ignore")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)


class _Worker:
    def __init__(self, connection: Connection, setup: Setup, fd: int) -> None:
        self.connection, self.setup = connection, setup
        self.shared = SharedPixels(fd, setup.resizing, setup.slots)
        self.tasks: deque[Task] = deque()
        self.free = setup.slots
        self.slots = count()

    def run(self) -> None:
        while True:
            while not self.tasks or self.connection.poll():
                self._receive()
            self._read(self.tasks.popleft())
            self.connection.send(None)

    def _receive(self) -> None:
        message = self.connection.recv()
        if isinstance(message, int):
            self.free += message
        else:
            self.tasks.append(message)

    def _read(self, task: Task) -> None:
        done = self.setup.done
        pictures = task.unit.pictures(None if done is None else done.known)
        for position in count():
            picture = self._next(pictures, position)
            if picture is None:
                return
            if position < task.skip:
                continue
            error = task.failed if position == task.skip else None
            if error is None:
                while not self.free:
                    self._receive()
                error = self._decode(picture, position)
            self.connection.send(Row(picture.key, error))

    def _next(self, pictures: Iterator[Picture], position: int) -> Picture | None:
        self._begin(position)
        try:
            return next(pictures, None)
        finally:
            self._end()

    def _decode(self, picture: Picture, position: int) -> str | None:
        """Put the pixels of a picture into the next slot, or return its error."""
        self._begin(position)
        try:
            pixels = decode(picture.read(), self.setup.resizing, self.setup.max_pixels)
        except (ValueError, OSError, MemoryError) as error:
            return str(error) or type(error).__name__
        finally:
            self._end()
        self.shared.pixels[next(self.slots) % self.setup.slots] = pixels
        self.free -= 1
        return None

    def _begin(self, position: int) -> None:
        # The serial goes first: the parent must never see this position with the old serial.
        self.shared.header[0] += 1
        self.shared.header[1] = position

    def _end(self) -> None:
        self.shared.header[1] = IDLE
