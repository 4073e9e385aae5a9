"""Shards: the Parquet files of a result.

A shard is written as ``_NAME.TOKEN.part``, which readers of the folder ignore, and then renamed. So
a shard is in the folder as a whole or not at all, whenever a run is killed.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from dsm_ext.predict.result.columns import ERROR, KEY
from dsm_ext.predict.result.stores import Store, plain_errors, store_in
from dsm_ext_reader.keys import KeySet, digests

SHARD = re.compile(r"part-.+\.parquet")
PART = re.compile(r"_.+\.[0-9a-f]{8}\.part")  # a shard or manifest of a run that was killed
ROW_GROUP_BYTES = 16 << 20  # in memory: 10,000 embeddings of 384 float32
KEYS_AT_ONCE = 1 << 16


def part_name(name: str) -> str:
    """The name of a file while it is written. Another attempt at the same file has another."""
    return f"_{name}.{secrets.token_hex(4)}.part"


class ShardWriter:
    """Writes one shard. ``finish`` or ``abandon`` must be the last call.

    Raises:
        OSError: a file cannot be written. The message names it.
    """

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self.name, self.rows = name, 0
        self._store, self._part = store, part_name(name)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._file = store.create(self._part)
        try:
            with self._plain():
                self._writer = pq.ParquetWriter(
                    self._file,
                    schema,
                    compression="zstd",
                    use_dictionary=[ERROR, "top5_name.list.element"],  # elsewhere few values repeat
                    write_statistics=[KEY, ERROR],
                    write_page_checksum=True,
                )
        except BaseException:
            self._discard_file()
            raise

    @property
    def bytes(self) -> int:
        """The size of the shard: what is written, and what waits uncompressed."""
        return self._file.tell() + self._waiting_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. They are written when there are enough for a row group."""
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._write_waiting()

    def finish(self) -> None:
        """Write what waits, make the file safe on the disk, and give it its name."""
        self._write_waiting()
        with self._plain():
            self._writer.close()
        self._store.finish(self._file, self._part)
        self._store.rename(self._part, self.name)

    def abandon(self) -> None:
        """Delete what is written, as far as that is possible."""
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            self._writer.close()
        self._discard_file()

    def _discard_file(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._store.remove(self._part)

    def _write_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            table = pa.Table.from_batches(waiting)
            with self._plain():
                self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _plain(self) -> contextlib.AbstractContextManager[None]:
        return plain_errors(self._store.path(self.name), "written")


def shard_name(keys: Iterable[str]) -> str:
    """The name of the shard that has these keys, in any order.

    A task that is run again has the same keys, and so replaces its own shard.
    """
    ordered = np.sort(digests(keys))
    return f"part-{blake2b(ordered.tobytes(), digest_size=16).hexdigest()}.parquet"


def write_shard(
    filesystem: fs.FileSystem, folder: str, table: pa.Table, name: str | None = None
) -> str:
    """Write a table as one shard, at once or not at all.

    Args:
        filesystem, folder: where, as ``OutputFolder.place`` says it.
        name: of the shard. The default is ``shard_name`` of its keys.

    Returns:
        The shard's name.

    Raises:
        OSError: it cannot be written. The message names the shard.
    """
    name = name or shard_name(table.column(KEY).to_pylist())
    writer = ShardWriter(store_in(filesystem, folder), name, table.schema)
    try:
        for batch in table.to_batches():
            writer.write(batch)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return name


@dataclass
class Settled:
    """What is in a folder after ``settle``.

    ``duplicates`` and ``retried`` count rows that were taken out: those whose key came before, and
    those with an error.
    """

    done: KeySet = field(default_factory=KeySet)
    rows: int = 0
    errors: int = 0
    shards: int = 0
    duplicates: int = 0
    retried: int = 0


def settle(store: Store, schema: pa.Schema, *, retry_errors: bool = False) -> Settled:
    """Read the keys of all shards, and take out rows whose key an earlier row has.

    Shards are read one after another, in the order of their names, and only their keys and errors.
    A shard that loses rows is written anew and replaced at once, or deleted if none are left. So
    this may be killed and run again.

    Args:
        schema: of the result.
        retry_errors: also take out the rows that have an error, so that they are done anew.

    Raises:
        ValueError, OSError: a shard is damaged, has other columns, or cannot be read or written.
            The message names it.
    """
    settled = Settled()
    for name in store.names():
        if not SHARD.fullmatch(name):
            continue
        kept = [np.zeros(0, bool)]
        for keys, failed in _keys(store, name, schema):
            keep = ~failed if retry_errors else np.ones(len(keys), bool)
            settled.retried += int((~keep).sum())
            wanted = keys if keep.all() else [keys[i] for i in np.flatnonzero(keep)]
            new = settled.done.add(wanted)
            settled.duplicates += int((~new).sum())
            keep[keep] = new
            settled.errors += int((keep & failed).sum())
            kept.append(keep)
        keep = np.concatenate(kept)
        settled.rows += int(keep.sum())
        settled.shards += bool(keep.any())
        if not keep.any():
            store.remove(name)
        elif not keep.all():
            _rewrite(store, name, keep)
    return settled


@contextlib.contextmanager
def _opened(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    path = store.path(name)
    with store.open(name) as file:
        try:
            yield pq.ParquetFile(file, page_checksum_verification=True)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(
                f"dsm_ext: {path} cannot be read: {error}; if it is damaged, delete it, and its "
                "pictures are done anew"
            ) from error


def _keys(store: Store, name: str, schema: pa.Schema) -> Iterator[tuple[list[str], np.ndarray]]:
    """The keys of a shard, and bool [n]: True where there is an error; some rows at a time."""
    with _opened(store, name) as parquet:
        found = parquet.schema_arrow
        if found.names != schema.names or found.types != schema.types:
            raise ValueError(
                f"dsm_ext: expected {store.path(name)} to have the columns {_columns(schema)}, got "
                f"{_columns(found)}: take another -o"
            )
        for batch in parquet.iter_batches(KEYS_AT_ONCE, columns=[KEY, ERROR]):
            failed = batch.column(ERROR).is_valid().to_numpy(zero_copy_only=False)
            yield batch.column(KEY).to_pylist(), failed


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema)


def _rewrite(store: Store, name: str, keep: np.ndarray) -> None:
    """Replace a shard by one that has only some of its rows. One row group is in memory.

    Args:
        keep: bool [rows of the shard].
    """
    writer: ShardWriter | None = None
    start = 0
    try:
        for table in _row_groups(store, name):
            writer = writer or ShardWriter(store, name, table.schema)
            end = start + table.num_rows
            for batch in table.filter(pa.array(keep[start:end])).to_batches():
                writer.write(batch)
            start = end
        if writer is not None:
            writer.finish()
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise


def _row_groups(store: Store, name: str) -> Iterator[pa.Table]:
    with _opened(store, name) as parquet:
        for i in range(parquet.num_row_groups):
            yield parquet.read_row_group(i)
