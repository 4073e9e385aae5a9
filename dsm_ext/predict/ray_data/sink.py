"""Writing shards in tasks of Ray Data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.fs
import ray
from ray.data import Datasink

from dsm_ext.predict.ray_data.rows import errors_in, row_bytes
from dsm_ext.predict.result.manifest import MANIFEST
from dsm_ext.predict.result.output_folder import OutputFolder
from dsm_ext.predict.result.shards import write_shard

SHARD_ROWS = 1 << 15
SHARD_BYTES = 64 << 20


class ShardSink(Datasink[dict[str, int]]):
    """Writes shards. Ray Data calls ``write`` in tasks on any machine.

    Args:
        rows: the least that a shard has, except the last one.

    Attributes:
        written: at the end, how many ``rows`` were written and how many have ``errors``.
    """

    def __init__(self, output: OutputFolder, rows: int) -> None:
        self._place, self._schema, self._rows = output.place, output.schema, rows
        self.written = {"rows": 0, "errors": 0}

    @property
    def min_rows_per_write(self) -> int:
        return self._rows

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> dict[str, int]:
        table = pa.concat_tables(
            self._schema.empty_table() if not block.num_rows else block.cast(self._schema)
            for block in blocks
        )
        if table.num_rows:
            check_place(self._place)
            write_shard(*self._place, table)
        return {"rows": table.num_rows, "errors": errors_in(table)}

    def on_write_complete(self, write_result: Any) -> None:
        for written in write_result.write_returns:
            for name in self.written:
                self.written[name] += written[name]


def rows_of_shards(schema: pa.Schema, workers: int) -> int:
    """How many rows a shard has. Few workers get small shards: a killed run loses what is in none.

    2048 for each worker, up to 32768, and no more than 64 MB.
    """
    most = SHARD_BYTES // row_bytes(schema)
    return max(1, min(most, SHARD_ROWS, SHARD_ROWS // 16 * workers))


def check_place(place: tuple[pa.fs.FileSystem, str]) -> None:
    """
    Raises:
        FileNotFoundError: this machine does not see the output folder's manifest, so it would write
            to a folder of its own.
    """
    filesystem, folder = place
    path = f"{folder}/{MANIFEST}"
    if filesystem.get_file_info(path).type != pa.fs.FileType.File:
        raise FileNotFoundError(
            f"dsm_ext.predict: expected all machines to share the output folder, got no {path} on "
            f"{ray.util.get_node_ip_address()}"
        )
