"""``Engine``: one model, and the processes that decode pictures for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Full, Queue
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from dsm_ext.predict.predictor import Predictor
from dsm_ext.predict.result.columns import error_rows, schema, to_arrow
from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.pool import DecodingPool
from dsm_ext_reader.units import Unit

READY = 2  # batches that wait for the model: decoding goes on while it works
POLL_SECONDS = 0.2  # how soon the thread that fills batches notices that nobody wants them
STOP_SECONDS = 1  # after which that thread is left alone: a folder that is listed may not answer


@dataclass(frozen=True)
class EngineSettings:
    """What an ``Engine`` is made of. It can be pickled.

    Args:
        predictor: the arguments of ``Predictor``, by name.
        batch: pictures in one call of the model.
        decoders: processes that read and decode pictures. None: one for each of torch's threads.
        timeout: seconds that reading and decoding one picture may take.
        max_pixels: larger pictures are errors. None: no limit.
    """

    predictor: dict[str, Any]
    batch: int = 32
    decoders: int | None = None
    timeout: float = 60
    max_pixels: int | None = None


@dataclass
class _Batch:
    keys: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Keys of pictures that have no pixels, and their errors."""
    pixels: Tensor = field(default_factory=lambda: torch.empty(0))


class _Failure(NamedTuple):
    error: BaseException


class Engine:
    """Predicts the pictures of units: reads, decodes and runs the model at the same time.

    Args:
        settings: the model, the outputs and the processes.
        done: pictures with these keys are left out.
        predictor: a loaded one, in place of loading ``settings.predictor``.

    Raises:
        As ``Predictor``.
    """

    def __init__(
        self,
        settings: EngineSettings,
        done: KeySet | None = None,
        predictor: Predictor | None = None,
    ) -> None:
        self.predictor = predictor or Predictor(**settings.predictor)
        self.schema = schema(self.predictor.columns)
        self._batch = settings.batch
        self._pool = DecodingPool(
            self.predictor.resizing,
            settings.decoders or torch.get_num_threads(),
            timeout=settings.timeout,
            max_pixels=settings.max_pixels,
            done=done,
        )

    def run(self, units: Iterable[Unit]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of all pictures that are not done. Pictures with an error are rows too.

        One call must end, or be closed, before the next one begins.
        """
        filling = _Filling(self._pool, units, self._batch)
        running: deque[_Batch] = deque()
        try:
            for outputs in self.predictor.stream(_pixels(filling.batches(), running)):
                batch = running.popleft()
                if batch.failed:
                    keys, errors = zip(*batch.failed, strict=True)
                    yield error_rows(keys, errors, self.schema)
                if batch.keys:
                    yield to_arrow(batch.keys, outputs, self.schema)
        finally:
            filling.stop()

    def close(self) -> None:
        """End the decoding processes."""
        self._pool.close()


def _pixels(batches: Iterator[_Batch], running: deque[_Batch]) -> Iterator[Tensor]:
    """The pixels of batches. The batches themselves are kept until their outputs arrive."""
    for batch in batches:
        running.append(batch)
        yield batch.pixels


class _Filling:
    """A thread that copies decoded pictures into batches, while the model computes others."""

    def __init__(self, pool: DecodingPool, units: Iterable[Unit], batch: int) -> None:
        self._pool, self._units, self._size = pool, units, batch
        self._queue: Queue[_Batch | _Failure | None] = Queue(READY)
        self._stopped = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="dsm_ext.predict.fill", daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[_Batch]:
        while True:
            item = self._queue.get()
            if isinstance(item, _Failure):
                raise item.error
            if item is None:
                self._ended = True
                return
            yield item

    def stop(self) -> None:
        """End the thread. Batches that nobody has taken are lost, and the pool is stopped."""
        self._stopped.set()
        if not self._ended:
            self._pool.stop()
        end = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < end:
            self._thread.join(POLL_SECONDS / 10)

    def _run(self) -> None:
        try:
            for batch in self._fill():
                self._put(batch)
            self._put(None)
        except BaseException as error:  # raised where the batches are taken
            self._put(_Failure(error))

    def _put(self, item: _Batch | _Failure | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue

    def _fill(self) -> Iterator[_Batch]:
        shape = self._pool.shape
        batch = _Batch(pixels=torch.empty(self._size, *shape, dtype=torch.uint8))
        for key, error, pixels in self._pool.read(self._units):
            if pixels is None:
                batch.failed.append((key, error or ""))
            else:
                batch.pixels[len(batch.keys)] = torch.from_numpy(pixels)
                batch.keys.append(key)
            if max(len(batch.keys), len(batch.failed)) == self._size:
                yield self._cut(batch)
                batch = _Batch(pixels=torch.empty(self._size, *shape, dtype=torch.uint8))
        if batch.keys or batch.failed:
            yield self._cut(batch)

    @staticmethod
    def _cut(batch: _Batch) -> _Batch:
        batch.pixels = batch.pixels[: len(batch.keys)]
        return batch
