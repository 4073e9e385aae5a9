"""Counting rows of a result, and their bytes."""

from __future__ import annotations

import pyarrow as pa

from dsm_ext.predict.result.columns import ERROR


def errors_in(rows: pa.Table | pa.RecordBatch) -> int:
    """How many rows have an error."""
    return rows.num_rows - rows.column(ERROR).null_count


def row_bytes(schema: pa.Schema) -> int:
    """The bytes that a row of a result takes in memory; a text counts 64."""
    return sum(_bytes(field.type) for field in schema)


def _bytes(kind: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * _bytes(kind.value_type)
    return kind.bit_width // 8 if pa.types.is_primitive(kind) else 64
