"""An engine as an actor of Ray Data, and the units that travel to it."""

from __future__ import annotations

import importlib
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import pyarrow as pa
import ray

from dsm_ext._native import __version__
from dsm_ext.predict.ray_data.rows import errors_in
from dsm_ext.predict.ray_data.sink import check_place
from dsm_ext.predict.ray_data.tally import Count


class Engine(Protocol):
    """A model with its decoding processes. Actors call ``run`` one time after another.

    ``run`` gives the same pictures' rows if it gets the same units again: it must not remember the
    keys of earlier calls, because Ray may need lost rows once more.
    """

    def run(self, units: Iterable[Any]) -> Iterator[pa.RecordBatch]: ...
    def close(self) -> None: ...


class EngineActor:
    """An engine as an actor of Ray Data: rows of packed units in, one block of rows out.

    Raises:
        ValueError: this machine has another version of ``dsm_ext``.
        FileNotFoundError: this machine does not see the output folder.
    """

    def __init__(
        self,
        *,
        engine: Callable[[Any, Any], Engine] | None,
        settings: Any,
        done: ray.ObjectRef | None,
        place: tuple[pa.fs.FileSystem, str],
        schema: pa.Schema,
        count: Count,
        version: str,
    ) -> None:
        if version != __version__:
            raise ValueError(
                f"dsm_ext.predict: expected dsm_ext {version} on all machines, got {__version__} "
                f"on {ray.util.get_node_ip_address()}"
            )
        check_place(place)
        if engine is None:
            engine = importlib.import_module("dsm_ext.predict.engine").Engine
        self._schema, self._count = schema, count
        # The keys are read-only memory that all actors of a machine share.
        self._engine = engine(settings, None if done is None else ray.get(done))

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """
        Args:
            batch: a column ``units`` of lists of packed units.
        """
        yield self._schema.empty_table()  # a block has columns even if all its pictures are done
        units = [unpacked(data) for task in batch["units"].to_pylist() for data in task]
        for rows in self._engine.run(units):
            self._count.add(rows.num_rows, errors_in(rows))
            yield pa.Table.from_batches([rows])
        self._count.send()

    def __del__(self) -> None:
        with suppress(AttributeError):  # the constructor failed
            self._engine.close()


def packed(unit: Any) -> bytes:
    return zlib.compress(pickle.dumps(unit, protocol=5), 1)  # paths of a folder are alike


def unpacked(data: bytes) -> Any:
    return pickle.loads(zlib.decompress(data))
