"""Pictures in Parquet tables: units of their rows, and finding them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsm_ext_reader.keys import key_of
from dsm_ext_reader.places import MOST, Place, reason
from dsm_ext_reader.sources.columns import Columns, choose
from dsm_ext_reader.units import Known, Lost, Picture, Unit, ahead, resolved

BYTES_ROWS, PATH_ROWS = 16, 1024  # rows that are in memory at a time
# Bytes of a column that are read at a time, whatever the size of its row group.
BUFFER, REMOTE_BUFFER = 2**20, 2**23


@dataclass(frozen=True)
class Rows:
    """The rows of one row group of a table.

    Attributes:
        table: the file.
        group: the number of the row group.
        first: the number in the table of its first row.
        count: how many rows it has.
        columns: which columns are read.
        folder: where relative paths start.
    """

    table: Place
    group: int
    first: int
    count: int
    columns: Columns
    folder: Place

    @property
    def key(self) -> str:
        return key_of(f"{self.table.name}#{self.first}-{self.first + self.count - 1}")

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        done = 0
        try:
            with opened(self.table) as file:
                if known is not None and self._all_known(file, known):
                    return
                names, size = self.columns.names(), PATH_ROWS if self.columns.paths else BYTES_ROWS
                for batch in self._batches(file, names, size):
                    keys = self._keys(batch, self.first + done)
                    yield from self._pictures(batch.column(self.columns.picture), keys, known)
                    done += len(batch)
        except Exception as error:  # damaged pages raise many types
            last = self.first + self.count - 1
            name = self.table.shown
            message = (
                str(error)
                if str(error).startswith("dsm_ext: ")
                else f"dsm_ext: {name} is damaged, and its rows {self.first + done} to {last} are "
                f"lost: {reason(error)}"
            )
            yield from Lost(self.key, message).pictures(known)

    def _batches(
        self, file: pq.ParquetFile, names: list[str], size: int
    ) -> Iterator[pa.RecordBatch]:
        return file.iter_batches(size, [self.group], names, use_threads=False)

    def _all_known(self, file: pq.ParquetFile, known: Known) -> bool:
        """Whether all keys are known, found out without reading bytes of pictures."""
        if self.columns.paths:
            return False  # paths are read quickly
        if self.columns.key is None:
            return bool(known(self._numbers(self.first, self.count)).all())
        done = 0
        for batch in self._batches(file, [self.columns.key], PATH_ROWS):
            if not known(self._keys(batch, self.first + done)).all():
                return False
            done += len(batch)
        return True

    def _numbers(self, first: int, count: int) -> list[str]:
        name = key_of(self.table.name)
        return [f"{name}#{row}" for row in range(first, first + count)]

    def _keys(self, batch: pa.RecordBatch, first: int) -> list[str]:
        """The keys of a batch's rows. A row without a key has its number as the key."""
        keys = self._numbers(first, len(batch))
        name = self.columns.key or (self.columns.picture if self.columns.paths else None)
        if name is not None:
            for row, value in enumerate(batch.column(name)):
                try:
                    key = value.as_py()
                except ValueError:  # a text that is not UTF-8
                    continue
                if key is not None and key != "" and key != b"":
                    keys[row] = key_of(key if isinstance(key, bytes) else str(key))
        return keys

    def _pictures(
        self, column: pa.Array, keys: list[str], known: Known | None
    ) -> Iterator[Picture]:
        if self.columns.paths:
            places = [
                _path(value, key, self.folder) for value, key in zip(column, keys, strict=True)
            ]
            yield from ahead(keys, places, known)
            return
        skipped = known(keys) if known is not None else [False] * len(keys)
        for row, key in enumerate(keys):
            if not skipped[row]:
                yield Picture(key, partial(_content, column[row], key, self.folder))


def _path(value: pa.Scalar, key: str, folder: Place) -> Place | str:
    """The place that a row names, or why there is none."""
    try:
        text = value.as_py()
    except ValueError as error:  # not UTF-8
        return f"dsm_ext: the path of {key} is no text: {error}"
    if text:
        return resolved(folder, text)
    return f"dsm_ext: the path of {key} is {'null' if text is None else 'empty'}"


def _content(value: pa.Scalar, key: str, folder: Place) -> bytes:
    """The bytes of a picture in a table."""
    content: Any = value.as_py()
    if isinstance(content, dict):  # Hugging Face's: without bytes, the path counts
        path = content.get("path")
        content = content.get("bytes")
        if content is None and path:
            return folder.child(path).read()
    if not content:
        state = "null" if content is None else "empty"
        raise ValueError(f"dsm_ext: the picture of {key} is {state}")
    if len(content) > MOST:
        raise ValueError(
            f"dsm_ext: {key} is too large for a picture: expected at most {MOST} bytes, got "
            f"{len(content)}"
        )
    return content


@contextmanager
def opened(table: Place) -> Iterator[pq.ParquetFile]:
    """A Parquet file whose columns are read in pieces.

    Raises:
        ValueError: it is no Parquet file.
        OSError: it cannot be opened.
    """
    with table.open() as file:
        try:
            parquet = pq.ParquetFile(
                file,
                buffer_size=REMOTE_BUFFER if table.url else BUFFER,
                pre_buffer=False,  # it would read all of a row group
                page_checksum_verification=True,
            )
        except Exception as error:
            raise ValueError(
                f"dsm_ext: {table.shown} is no Parquet file: {reason(error)}"
            ) from error
        with parquet:
            yield parquet


def columns(table: Place, picture: str | None, key: str | None) -> Columns:
    """The columns of a table, as ``choose`` describes. It raises what ``opened`` raises, too."""
    with opened(table) as file:
        return choose(file.schema_arrow, picture, key, table.shown)


def row_groups(table: Place, picture: str | None, key: str | None) -> Iterator[Unit]:
    """Yield the rows of a table, in units of one row group. If it cannot be read, what is lost."""
    try:
        with opened(table) as file:
            chosen = choose(file.schema_arrow, picture, key, table.shown)
            counts = [
                file.metadata.row_group(group).num_rows
                for group in range(file.metadata.num_row_groups)
            ]
    except (OSError, ValueError) as error:
        yield Lost(key_of(table.name), str(error))
        return
    first = 0
    for group, count in enumerate(counts):
        if count:
            yield Rows(table, group, first, count, chosen, table.parent())
        first += count


def count(table: Place) -> int | None:
    """The number of rows of a table. None if it cannot be read."""
    try:
        with opened(table) as file:
            return file.metadata.num_rows
    except (OSError, ValueError):
        return None
