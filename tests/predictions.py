"""Rows as ``dsm_ext.predict`` writes them, and folders of them."""

from __future__ import annotations

import numpy as np
import pyarrow.dataset

from dsm_ext.predict.result.columns import error_rows, schema, to_arrow
from dsm_ext.predict.result.output_folder import OutputFolder

SETTINGS = {"model": "deit", "schedule": "dsm:r=16", "preprocessing": {"mean": [0.5, 0.5, 0.5]}}
SCHEMA = schema({"embedding": ([3], "float32")})


def rows(*keys):
    """Rows without errors. An embedding depends on its key alone."""
    values = np.zeros((len(keys), 3), "float32")
    for value, key in zip(values, keys, strict=True):
        value[:] = np.random.default_rng(list(key.encode())).random(3)
    return to_arrow(keys, {"embedding": values}, SCHEMA)


def failed(*keys):
    return error_rows(keys, [f"{key} is broken" for key in keys], SCHEMA)


def opened(out, settings=SETTINGS, shard_seconds=1000, **arguments):
    return OutputFolder(str(out), settings, SCHEMA, shard_seconds=shard_seconds, **arguments)


def content(out):
    """{key: error} of the folder, as any reader finds it. Each key must be there once."""
    table = pyarrow.dataset.dataset(str(out), schema=SCHEMA, format="parquet").to_table()
    keys = table.column("key").to_pylist()
    assert len(set(keys)) == len(keys), sorted(keys)
    for key, error, embedding in zip(*(column.to_pylist() for column in table), strict=True):
        expected = rows(key).column("embedding")[0].as_py() if error is None else None
        assert embedding == expected
    return dict(zip(keys, table.column("error").to_pylist(), strict=True))
