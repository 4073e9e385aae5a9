"""The columns of a result: their Arrow types, and rows made of NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

KEY, ERROR = "key", "error"


def schema(outputs: Mapping[str, tuple[Sequence[int], str]]) -> pa.Schema:
    """The schema of a result: ``key``, ``error`` (null where there is none), then the outputs.

    An output is null where its picture has an error.

    Args:
        outputs: for each column, its shape for one picture and its dtype: ``float32``, ``float16``,
            an integer's name, or ``str``. A shape [C] becomes a fixed-size list, [M, C] a
            fixed-size list of such lists, and [] a plain value.

    Raises:
        ValueError: a name that is taken, a side of 0, or a dtype that Arrow does not have.
    """
    fields = [pa.field(KEY, pa.string(), nullable=False), pa.field(ERROR, pa.string())]
    for name, (shape, dtype) in outputs.items():
        if name in (KEY, ERROR):
            raise ValueError(f"dsm_ext.predict: expected outputs other than {name}, got {name}")
        if min(shape, default=1) < 1:
            raise ValueError(
                f"dsm_ext.predict: expected {name} to have positive sides, got {list(shape)}"
            )
        try:
            kind = pa.string() if dtype == "str" else pa.from_numpy_dtype(np.dtype(dtype))
        except (TypeError, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"dsm_ext.predict: expected {name} to have a dtype of NumPy's and Arrow's, got "
                f"{dtype}"
            ) from error
        for side in reversed(shape):
            kind = pa.list_(kind, side)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def to_arrow(
    keys: Sequence[str],
    columns: Mapping[str, np.ndarray],
    schema: pa.Schema,
    errors: Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """Rows of a result.

    Args:
        keys: n keys.
        columns: the outputs of ``schema``, each [n, *shape] in its dtype. Arrow shares their memory
            where it can, so they must not change afterwards.
        errors: n texts, or None where a picture has no error. The outputs of the others are null,
            whatever ``columns`` has in their place.

    Raises:
        ValueError: other columns than the schema's, or another shape or dtype.
    """
    names = [name for name in schema.names if name not in (KEY, ERROR)]
    if set(names) != set(columns):
        raise ValueError(
            f"dsm_ext.predict: expected the columns {', '.join(names)}, got {', '.join(columns)}"
        )
    if errors is None:
        errors = [None] * len(keys)
    if len(errors) != len(keys):
        raise ValueError(
            f"dsm_ext.predict: expected an error or None for {len(keys)} keys, got {len(errors)}"
        )
    failed = np.array([error is not None for error in errors], bool)
    arrays = [pa.array(keys, pa.string()), _texts(errors)]
    arrays += [
        _array(name, columns[name], schema.field(name).type, failed, len(keys)) for name in names
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def error_rows(keys: Sequence[str], errors: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of pictures that have errors. All outputs are null.

    Args:
        keys, errors: n texts each.
    """
    arrays = [pa.array(keys, pa.string()), _texts(errors)]
    arrays += [
        pa.nulls(len(keys), field.type) for field in schema if field.name not in (KEY, ERROR)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _texts(errors: Sequence[str | None]) -> pa.Array:
    """Messages, which may name a file whose name is not UTF-8."""
    return pa.array(
        [text and text.encode("utf-8", "backslashreplace").decode() for text in errors],
        pa.string(),
    )


def _array(
    name: str, values: np.ndarray, kind: pa.DataType, failed: np.ndarray, rows: int
) -> pa.Array:
    sides = []
    inner = kind
    while pa.types.is_fixed_size_list(inner):
        sides.append(inner.list_size)
        inner = inner.value_type
    text = pa.types.is_string(inner)
    dtype = "str" if text else np.dtype(inner.to_pandas_dtype()).name
    got = "str" if values.dtype.kind in "OU" else values.dtype.name
    if values.shape != (rows, *sides) or got != dtype:
        raise ValueError(
            f"dsm_ext.predict: expected {name} to be {dtype} {[rows, *sides]}, got {got} "
            f"{list(values.shape)}"
        )
    flat = np.ascontiguousarray(values).reshape(rows * math.prod(sides))
    mask = pa.array(failed) if failed.any() else None
    if not sides:
        return pa.array(
            flat.tolist() if text else flat, inner, mask=None if mask is None else failed
        )
    array = pa.array(flat.tolist() if text else flat, inner)
    for depth, side in enumerate(reversed(sides), start=1):
        outermost = depth == len(sides)
        array = pa.FixedSizeListArray.from_arrays(
            array, type=pa.list_(array.type, side), mask=mask if outermost else None
        )
    return array
