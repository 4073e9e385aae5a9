"""A thread that makes calls one after another, for work that an interrupt must not break."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

WAITING = 4  # calls that may wait, such as batches that are to be written


class WritingThread:
    """Makes calls in a thread of its own, in their order.

    Ctrl-C interrupts the main thread only, so a call is made as a whole or not at all. The first
    error of a call is raised by a later ``submit``, ``wait`` or ``close``; the others are not.

    Only ``SimpleQueue`` connects the threads. Its calls are atomic, while an interrupt inside of
    ``threading.Condition``, which futures and ``queue.Queue`` use, can leave a lock as it is.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None] | None, SimpleQueue]] = SimpleQueue()
        self._replies: deque[SimpleQueue] = deque()
        self._error: BaseException | None = None
        # As a daemon it does not keep a program alive that ends without ``close``.
        threading.Thread(target=self._run, name="dsm_ext.predict.write", daemon=True).start()

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call later. This waits while more than ``WAITING`` calls are not done."""
        self._put(lambda: call(*arguments))
        self.wait(WAITING)

    def wait(self, most: int = 0) -> None:
        """Wait until at most ``most`` calls are not done."""
        while len(self._replies) > most:
            self._replies.popleft().get()
        if self._error is not None:
            error, self._error = self._error, _RAISED
            if error is not _RAISED:
                raise error

    def close(self) -> None:
        """Make the calls that are left, and end the thread."""
        self._put(None)
        self.wait()

    def _put(self, call: Callable[[], None] | None) -> None:
        reply: SimpleQueue = SimpleQueue()
        self._calls.put((call, reply))
        self._replies.append(reply)

    def _run(self) -> None:
        call: Callable[[], None] | None
        while True:
            call, reply = self._calls.get()
            try:
                if call is not None:
                    call()
            except BaseException as error:
                if self._error is None:
                    self._error = error
            reply.put(None)
            if call is None:
                return
            del call  # it holds rows


_RAISED = RuntimeError()  # stands in the place of an error that was raised
