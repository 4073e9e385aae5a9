"""Starting processes of Python that talk with this one through a connection.

A child is a new program, not a fork: it shares no locks and no threads with this process. It does
not import the program's main module, so a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from dsm_ext_reader.child import _main; _main()"
)


class Child:
    """A process that runs a function with a connection to this process.

    Args:
        module, function: ``function(connection, *fds)`` of a module. It should return when the
            connection ends.
        fds: open files that the child inherits.
    """

    def __init__(self, module: str, function: str, fds: Sequence[int] = ()) -> None:
        ours, theirs = socket.socketpair()
        numbers = [theirs.fileno(), *fds]
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _START, json.dumps(sys.path), str(os.getpid())),
                    *(module, function, *map(str, numbers)),
                ],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
            )
            self.connection = Connection(ours.detach())
        finally:
            ours.close()
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        """End the process at once. A process that hangs in the kernel is not waited for.

        What it has sent can still be received.
        """
        self._process.kill()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            threading.Thread(target=self._process.wait, daemon=True).start()

    def kill(self) -> None:
        """End the process at once, and close the connection."""
        self.connection.close()
        self.end()

    def ending(self) -> str:
        """How a process ended whose connection is closed, in words."""
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status >= 0:
            return f"ended with status {status}"
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"


def _main() -> None:
    parent, module, function, *numbers = sys.argv[2:]
    # Ctrl-C reaches all processes of a terminal. The parent alone decides what then happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    fds = [int(number) for number in numbers]
    connection = Connection(fds[0])
    try:
        getattr(import_module(module), function)(connection, *fds[1:])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent ended
    finally:
        sys.stderr.flush()
    os._exit(0)  # do not wait for threads that hang in a read


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, also while it hangs in a read."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
