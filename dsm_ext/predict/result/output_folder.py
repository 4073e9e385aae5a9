"""The folder that a run writes its result to, and goes on with after it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyarrow import fs

from dsm_ext.predict.result.columns import ERROR, KEY
from dsm_ext.predict.result.manifest import MANIFEST, Manifest, read_manifest, refuse_other_settings
from dsm_ext.predict.result.shards import PART, ShardWriter, settle
from dsm_ext.predict.result.stores import Store, open_store
from dsm_ext.predict.result.writing_thread import WritingThread
from dsm_ext_reader.filesystems import without_secrets

LOCK = "_lock"
SHARD_BYTES = 256 << 20


class OutputFolder:
    """A folder of shards and a manifest, where no key is lost and none is there twice.

    It is safe to kill a run at any time and to open the folder again with the same settings: what
    finished shards have is kept, and ``done`` has its keys. A thread writes the files, so that an
    interrupt of the caller never breaks one. Its errors arrive at the next call of ``write``,
    ``flush`` or ``close``. After an error only ``close`` may be called.

    A local folder is locked while it is open. A folder of another file system is not: let only one
    run at a time write to it.

    Args:
        out: a local path, or a URL that ``open_filesystem`` opens. It is made if it is not there.
        settings: all that the columns depend on, as JSON has it.
        schema: of the rows; ``columns.schema`` makes it.
        retry_errors: take out the rows that have an error, so that their pictures are done anew.
        shard_seconds: after this time a shard is finished. A killed run loses what it did since.

    Attributes:
        done: the keys that the folder had when it was opened or settled. The caller may add to it.
        rows, errors: of the whole folder, with what is being written.
        kept: the rows of finished shards, which no end of this process can take away.

    Raises:
        BlockingIOError: another run has the folder open.
        ValueError: the folder is of other settings, has other files, or a shard is damaged.
        OSError: a file cannot be read or written.
    """

    def __init__(
        self,
        out: str | os.PathLike,
        settings: dict[str, Any],
        schema: pa.Schema,
        *,
        retry_errors: bool = False,
        shard_seconds: float = 60,
    ) -> None:
        self.schema, self.shard_seconds = schema, shard_seconds
        self._out = without_secrets(os.fspath(out))
        self._store: Store = open_store(out)
        self._content: dict[str, Any] = {}
        settings = json.loads(json.dumps(settings))
        self._store.make()
        self._refuse_other_files(self._store.names())  # before a lock is left in a folder of others
        self._lock = self._store.lock(LOCK)
        try:
            self._open(settings, retry_errors)
        except BaseException:
            self._unlock()
            raise
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._shard: ShardWriter | None = None
        self._shard_start = 0.0
        self._numbers = 0
        self._rows_in_shard = self._errors_in_shard = 0
        self._failed = self._closed = False
        self._thread = WritingThread()

    def _open(self, settings: dict[str, Any], retry_errors: bool) -> None:
        names = self._store.names()
        self._refuse_other_files(names)
        if MANIFEST in names:
            self._manifest = read_manifest(self._store)
            refuse_other_settings(self._out, self._manifest.settings, settings)
        else:
            self._manifest = Manifest(settings)
        for name in filter(PART.fullmatch, names):
            self._store.remove(name)
        self._settle()
        self._manifest.end_killed_run(self.rows, self.errors)
        if retry_errors and self.errors:
            self._settle(retry_errors=True)
        self._manifest.begin_run(self.rows, self.errors)
        self._write_manifest()

    def _refuse_other_files(self, names: list[str]) -> None:
        if MANIFEST in names:
            return
        others = [
            name for name in names if name[0] != "." and name != LOCK and not PART.fullmatch(name)
        ]
        if others:
            raise ValueError(
                f"dsm_ext: {self._out} has other files, such as {others[0]}, and no {MANIFEST} of "
                "dsm-ext predict: take another -o"
            )

    def _settle(self, retry_errors: bool = False) -> None:
        settled = settle(self._store, self.schema, retry_errors=retry_errors)
        self.done, self._written = settled.done, settled.done.copy()
        self.rows, self.errors, self._shards = settled.rows, settled.errors, settled.shards
        for count, why in (
            (settled.duplicates, "because their keys were there already"),
            (settled.retried, "to do pictures with an error anew"),
        ):
            if count:
                print(f"dsm_ext: rows taken out of {self._out} {why}: {count}", file=sys.stderr)

    @property
    def kept(self) -> int:
        return self.rows - self._rows_in_shard

    @property
    def place(self) -> tuple[fs.FileSystem, str]:
        """The file system and the folder in it, for ``shards.write_shard`` in other processes."""
        return self._store.place()

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows in the background. Rows whose key the folder has are dropped.

        Raises:
            ValueError: the rows have another schema.
            OSError: these or earlier rows cannot be written. The message names the file.
        """
        if not batch.schema.equals(self.schema):
            raise ValueError(
                f"dsm_ext: expected rows of the schema\n{self.schema}\ngot\n{batch.schema}"
            )
        self._refuse_if_closed()
        self._thread.submit(self._write, batch)

    def flush(self) -> None:
        """Finish the shard that is being written, so that its rows are kept, and wait for it.

        Raises:
            OSError: it cannot be written.
        """
        self._refuse_if_closed()
        self._thread.submit(self._end_shard)
        self._thread.wait()

    def settle(self) -> None:
        """Count what is in the folder, and take out rows whose key is there twice.

        For shards that other processes wrote with ``write_shard``: call it after the last one.

        Raises:
            ValueError, OSError: as ``shards.settle``.
        """
        self.flush()
        self._settle()
        self._write_manifest()

    def close(self, complete: bool) -> dict[str, Any]:
        """Finish the shard, write the manifest and unlock the folder.

        Args:
            complete: whether the run came to the end of its pictures.

        Returns:
            The content of the manifest. A second call changes nothing.

        Raises:
            OSError: a file cannot be written. The folder is unlocked nevertheless, and what
                finished shards have is kept.
        """
        if self._closed:
            return self._content
        self._closed = True
        try:
            self._thread.submit(self._finish, complete)
        finally:
            self._thread.close()
        return self._content

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(complete=False)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError(f"dsm_ext: {self._out} is closed")

    # The methods below run in the writing thread, or where nothing is left for it to do.

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._failed:
            return
        try:
            new = self._written.add(batch.column(KEY).to_pylist())
            batch = batch if new.all() else batch.filter(pa.array(new))
            if not batch.num_rows:
                return
            if self._shard is None:
                name = f"part-{self.run}-{self._numbers:06}.parquet"
                self._shard = ShardWriter(self._store, name, self.schema)
                self._shard_start = time.monotonic()
                self._numbers += 1
            self._shard.write(batch)
            errors = batch.num_rows - batch.column(ERROR).null_count
            self._count(batch.num_rows, errors)
        except BaseException:
            self._fail()
            raise
        long = time.monotonic() - self._shard_start >= self.shard_seconds
        if long or self._shard.bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._failed or self._shard is None:
            return
        try:
            self._shard.finish()
            self._shard = None
            self._shards += 1
            self._rows_in_shard = self._errors_in_shard = 0
            self._write_manifest()
        except BaseException:
            self._fail()
            raise

    def _finish(self, complete: bool) -> None:
        try:
            self._end_shard()
        finally:
            try:
                self._manifest.count(self.rows, self.errors, self._shards)
                self._manifest.end_run(complete and not self._failed)
                self._content = self._manifest.write(self._store)
            finally:
                self._unlock()

    def _count(self, rows: int, errors: int) -> None:
        self.rows += rows
        self.errors += errors
        self._rows_in_shard += rows
        self._errors_in_shard += errors

    def _fail(self) -> None:
        """Give up the shard that is being written. Its rows do not count."""
        self._failed = True
        self._count(-self._rows_in_shard, -self._errors_in_shard)
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.abandon()

    def _write_manifest(self) -> None:
        self._manifest.count(self.rows, self.errors, self._shards)
        self._content = self._manifest.write(self._store)

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            if self._lock is not None:
                self._lock.close()
