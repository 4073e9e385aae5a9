"""``DecodingPool``: processes that read and decode pictures, watched by this process."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy as np

from dsm_ext_reader.child import Child
from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.resizing import Resizing
from dsm_ext_reader.units import Unit
from dsm_ext_reader.worker import IDLE, Row, Setup, SharedPixels, Task

AHEAD = 2  # units that a process has at one time: it begins the second without waiting for us
SLOT_BYTES = 16 * 2**20  # of the pixels that one process may have ready
POLL_SECONDS = 0.2  # how often time limits are checked
LONGEST_STEP = 1  # seconds between two checks that count: Ctrl-Z may stop all processes for hours
MOST_DEATHS = 5  # of one process, one after another, none while it was reading a picture


class Decoded(NamedTuple):
    """A picture that was read."""

    key: str
    error: str | None
    pixels: np.ndarray | None
    """uint8 [height, width, channels], valid until the next one is taken. None after an error."""


class DecodingPool:
    """Reads and decodes the pictures of units in several processes.

    A picture that ends its process, or that takes too long, is given with an error, and another
    process goes on after it. Nothing of one picture can stop the others.

    Args:
        processes: how many.
        timeout: seconds that reading and decoding one picture may take.
        max_pixels: larger pictures are errors. None: no limit.
        done: pictures with these keys are left out.
    """

    def __init__(
        self,
        resizing: Resizing,
        processes: int,
        *,
        timeout: float = 60,
        max_pixels: int | None = None,
        done: KeySet | None = None,
    ) -> None:
        size = resizing.height * resizing.width * resizing.channels
        slots = min(max(SLOT_BYTES // size, 4), 64)
        setup = Setup(resizing, max_pixels, slots, done)
        self.shape = (resizing.height, resizing.width, resizing.channels)
        self.timeout = timeout
        self._stopped = False
        self._workers = [_Watched(setup) for _ in range(processes)]

    def read(self, units: Iterable[Unit]) -> Iterator[Decoded]:
        """Yield the pictures of all units, in the order in which they become ready.

        Raises:
            RuntimeError: a process ended again and again while it read no picture.
        """
        remaining = iter(units)
        while not self._stopped:
            for ahead in range(1, AHEAD + 1):  # one to each, before anyone has two
                for worker in self._workers:
                    if len(worker.tasks) < ahead and (unit := next(remaining, None)) is not None:
                        worker.give(Task(unit))
            busy = [worker for worker in self._workers if worker.tasks]
            if not busy:
                return
            ready = set(wait([worker.child.connection for worker in busy], timeout=POLL_SECONDS))
            for worker in busy:
                if worker.child.connection in ready:
                    yield from worker.messages()
                elif worker.reads_longer_than(self.timeout):
                    reason = f"reading it took longer than {self.timeout:g} s"
                    yield from worker.restart(reason, worker.serial)

    def stop(self) -> None:
        """Let ``read`` end soon, from another thread. The pool can then only be closed."""
        self._stopped = True

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.child.kill()


class _Watched:
    """A process of the pool, the units it has, and how far it is."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.tasks: deque[Task] = deque()
        self.deaths = 0
        self._start()

    def _start(self) -> None:
        fd = os.memfd_create("dsm_ext")
        try:
            self.shared = SharedPixels(fd, self.setup.resizing, self.setup.slots)
            self.shared.header[1] = IDLE
            self.child = Child("dsm_ext_reader.worker", "run", [fd])
        finally:
            os.close(fd)
        self.received = 0  # pictures of the first task, counted from its unit's start
        self.slot = self.owed = 0
        self.serial, self.checked, self.reading = 0, time.monotonic(), 0.0
        self._send(self.setup)

    def _send(self, message: Setup | Task | int) -> None:
        # If the process has ended, `messages` finds that.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.child.connection.send(message)

    def give(self, task: Task) -> None:
        """Append a unit to those that the process reads."""
        self.tasks.append(task)
        self._send(task)

    def messages(self) -> Iterator[Decoded]:
        """Yield the pictures that the process has sent. Start another one if it has ended."""
        try:
            yield from self._waiting()
        except (EOFError, OSError):
            yield from self.restart(f"the process that read it {self.child.ending()}")

    def _waiting(self) -> Iterator[Decoded]:
        while self.child.connection.poll():
            message = self.child.connection.recv()
            self.deaths = 0
            if message is None:
                self.tasks.popleft()
                self.received = 0
            else:
                self.received += 1
                yield from self._decoded(message)

    def _decoded(self, row: Row) -> Iterator[Decoded]:
        if row.error is not None:
            yield Decoded(row.key, row.error, None)
            return
        yield Decoded(row.key, None, self.shared.pixels[self.slot])
        self.slot = (self.slot + 1) % self.setup.slots
        self.owed += 1
        if self.owed >= self.setup.slots // 4:  # fewer messages than one for each slot
            self._send(self.owed)
            self.owed = 0

    def reads_longer_than(self, seconds: float) -> bool:
        """Whether one picture is being read for longer than this."""
        serial, position = (int(value) for value in self.shared.header)
        now = time.monotonic()
        step, self.checked = min(now - self.checked, LONGEST_STEP), now
        if serial != self.serial or position == IDLE:
            self.serial, self.reading = serial, 0.0
        else:
            self.reading += step
        return self.reading > seconds

    def restart(self, reason: str, serial: int | None = None) -> Iterator[Decoded]:
        """Start another process, which goes on after the picture at which this one ended.

        Args:
            serial: of the picture that takes too long. None: the process has ended by itself.
        """
        self.child.end()
        with contextlib.suppress(EOFError, OSError):
            yield from self._waiting()  # what it sent before it ended
        last, position = (int(value) for value in self.shared.header)
        failed: str | None = reason
        if position == IDLE or serial not in (None, last):  # no picture made it end
            if serial is None:
                self.deaths += 1
            if self.deaths == MOST_DEATHS:
                raise RuntimeError(f"dsm_ext: a process that decodes pictures: {reason}")
            position, failed = self.received, None
        self.child.connection.close()
        if self.tasks:
            task = self.tasks.popleft()
            if failed is not None and task.failed is not None and position == task.skip:
                # It ended before it knew the key of this picture: the rest cannot be read.
                yield Decoded(task.unit.key, f"what follows picture {position}: {reason}", None)
            else:
                self.tasks.appendleft(Task(task.unit, position, failed))
        tasks, self.tasks = self.tasks, deque()
        self._start()
        self.received = tasks[0].skip if tasks else 0
        for task in tasks:
            self.give(task)
