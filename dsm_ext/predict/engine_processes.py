"""Several engines, each in a process of its own, that share the units of one run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import pyarrow as pa

from dsm_ext_reader.child import Child
from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.units import Unit

AHEAD = 2  # units that wait in a process
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Taken:
    """A message of an engine's process: it has begun a unit."""


@dataclass(frozen=True)
class Failed:
    """A message of an engine's process: it ends with this error."""

    error: Exception


class EngineProcesses:
    """Engines in processes of their own. One thread at a time may use them.

    Args:
        settings: of each engine. The threads and decoding processes are those of one engine.
        processes: how many engines.
        done: pictures with these keys are left out.
    """

    def __init__(self, settings: Any, processes: int, done: KeySet | None) -> None:
        self._children: list[Child] = []
        try:
            for _ in range(processes):
                self._children.append(Child(__name__, "serve"))
            for child in self._children:
                _send(child, (settings, done))
        except BaseException:
            self.close()
            raise

    def run(self, units: Iterable[Unit]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of all pictures, in the order in which they become ready.

        It can be called once.

        Raises:
            RuntimeError: a process was ended, for example because the memory was exhausted.
            Other errors: as ``Engine`` and ``Engine.run``.
        """
        remaining = iter(units)
        waiting = dict.fromkeys(self._children, 0)
        working = list(self._children)
        while working:
            for ahead in range(1, AHEAD + 1):
                for child in working:
                    if 0 <= waiting[child] < ahead:
                        unit = next(remaining, None)
                        _send(child, unit)
                        waiting[child] = -1 if unit is None else waiting[child] + 1
            ready = set(wait([child.connection for child in working], timeout=POLL_SECONDS))
            for child in [child for child in working if child.connection in ready]:
                try:
                    message = child.connection.recv()
                except (EOFError, ConnectionResetError):
                    raise RuntimeError(
                        f"dsm_ext.predict: a process with a model {child.ending()}; perhaps the "
                        "memory is not enough for so many --workers"
                    ) from None
                if message is None:
                    working.remove(child)
                elif isinstance(message, Failed):
                    raise message.error
                elif isinstance(message, Taken):
                    waiting[child] -= waiting[child] > 0
                else:
                    yield from pa.ipc.open_stream(message)

    def close(self) -> None:
        """End all processes."""
        for child in self._children:
            child.kill()


def _send(child: Child, message: Any) -> None:
    # If the process has ended, `run` finds that when it receives, and says how.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        child.connection.send(message)


def serve(connection: Connection) -> None:
    """Run an engine in this process: its settings and units arrive, its rows are sent."""
    from dsm_ext.predict.engine import Engine

    lock = threading.Lock()  # units are taken in one thread, rows are sent in another

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    def units() -> Iterator[Unit]:
        while (unit := connection.recv()) is not None:
            send(Taken())
            yield unit

    try:
        settings, done = connection.recv()
        engine = Engine(settings, done)
        for rows in engine.run(units()):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as stream:
                stream.write_batch(rows)
            send(sink.getvalue().to_pybytes())
        engine.close()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        send(Failed(error))
    else:
        send(None)


def shared(settings: Any, processes: int, threads: int) -> Any:
    """The settings of each of several engines that share the threads of one machine."""
    own = max(threads // processes, 1)
    return replace(
        settings,
        predictor={**settings.predictor, "threads": own},
        decoders=max((settings.decoders or threads) // processes, 1),
    )
