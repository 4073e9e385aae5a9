"""Rows of a result: their types, nulls, and how other libraries read them from Parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from dsm_ext.predict.result.columns import error_rows, schema, to_arrow
from dsm_ext.predict.result.output_folder import OutputFolder

OUTPUTS = {
    "embedding": ([4], "float16"),
    "logits": ([3], "float32"),
    "top5_class": ([2], "int32"),
    "top5_name": ([2], "str"),
    "tokens": ([2, 3], "float32"),
    "depth": ([], "float32"),
    "label": ([], "str"),
}
KEYS = ["a\nb.jpg", r"\xff.jpg", "über.jpg", "d.jpg"]
ERRORS = [None, "cut short", None, None]
MORE = ["broken \udcff"]  # the file name that an error names need not be UTF-8


def arrays(n=4):
    rng = np.random.default_rng(0)
    return {
        "embedding": rng.standard_normal((n, 4)).astype("float16"),
        "logits": rng.standard_normal((n, 3)).astype("float32"),
        "top5_class": rng.integers(0, 9, (n, 2)).astype("int32"),
        "top5_name": np.array([["shark", "雪"]] * n, object).reshape(n, 2),
        "tokens": rng.standard_normal((n, 2, 3)).astype("float32"),
        "depth": rng.standard_normal(n).astype("float32"),
        "label": np.array(["x"] * n, object),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    columns = schema(OUTPUTS)
    with OutputFolder(str(out), {}, columns) as output:
        output.write(to_arrow(KEYS, arrays(), columns, ERRORS))
        output.flush()
        output.write(error_rows(["e.jpg"], MORE, columns))
        output.close(True)
    return out


def expected(name, row):
    return None if row == 1 else arrays()[name].tolist()[row]


def test_types_of_columns():
    columns = schema(OUTPUTS)
    assert columns.names == ["key", "error", *OUTPUTS]
    assert columns.field("embedding").type == pa.list_(pa.float16(), 4)
    assert columns.field("tokens").type == pa.list_(pa.list_(pa.float32(), 3), 2)
    assert columns.field("top5_name").type == pa.list_(pa.string(), 2)
    assert columns.field("depth").type == pa.float32()


def test_pyarrow_reads_what_was_written(folder):
    table = pyarrow.dataset.dataset(folder).to_table().sort_by("key")
    assert table.schema.equals(schema(OUTPUTS))
    found = {row["key"]: row for row in table.to_pylist()}
    assert list(found) == sorted([*KEYS, "e.jpg"])
    for i, key in enumerate(KEYS):
        for name in OUTPUTS:
            assert found[key][name] == expected(name, i)
        assert found[key]["error"] == ERRORS[i]
    assert found["e.jpg"] == {"key": "e.jpg", "error": r"broken \udcff"} | dict.fromkeys(OUTPUTS)


def test_pandas_reads_what_was_written(folder):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_parquet(folder).set_index("key")
    assert len(frame) == 5 and frame.loc[KEYS[1], "error"] == "cut short"
    for i, key in enumerate(KEYS):
        if i == 1:
            assert frame.loc[key, list(OUTPUTS)].isna().all()
            continue
        assert frame.loc[key, "embedding"].dtype == np.float16
        assert frame.loc[key, "embedding"].tolist() == expected("embedding", i)
        assert np.stack(frame.loc[key, "tokens"]).tolist() == expected("tokens", i)
    assert np.stack(frame["logits"].dropna()).shape == (3, 3)


def test_duckdb_reads_what_was_written(folder):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    names = ", ".join(OUTPUTS)
    with duckdb.connect() as connection:
        query = f"select key, error, {names} from '{folder}/*.parquet'"
        found = {row[0]: row[1:] for row in connection.execute(query).fetchall()}
    assert set(found) == {*KEYS, "e.jpg"}
    for i, key in enumerate(KEYS):
        assert found[key] == (ERRORS[i], *(expected(name, i) for name in OUTPUTS))


def test_no_rows():
    columns = schema(OUTPUTS)
    assert to_arrow([], arrays(0), columns).num_rows == error_rows([], [], columns).num_rows == 0


def test_rows_of_an_array_that_is_a_view():
    columns = schema({"embedding": ([2], "float32")})
    values = np.arange(16, dtype="float32").reshape(4, 4).T[::2, 1:3]
    batch = to_arrow(["a", "b"], {"embedding": values}, columns)
    assert batch.column("embedding").to_pylist() == values.tolist()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": np.zeros((4, 3))}, "logits to be float32 .4, 3., got float64 .4, 3."),
        ({"logits": np.zeros((4, 2), "f4")}, "logits to be float32 .4, 3., got float32 .4, 2."),
        ({"logits": np.zeros((3, 3), "f4")}, "logits to be float32 .4, 3., got float32 .3, 3."),
        ({"depth": np.zeros((4, 1), "f4")}, "depth to be float32 .4., got float32 .4, 1."),
        ({"label": np.zeros(4, "f4")}, "label to be str .4., got float32 .4."),
        ({"more": np.zeros(4)}, "expected the columns embedding, .* got .*more"),
    ],
)
def test_other_arrays_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        to_arrow(KEYS, arrays() | change, schema(OUTPUTS))


def test_other_schemas_are_refused():
    with pytest.raises(ValueError, match="expected outputs other than error, got error"):
        schema({"error": ([], "str")})
    with pytest.raises(ValueError, match=r"expected x to have positive sides, got \[0\]"):
        schema({"x": ([0], "float32")})
    with pytest.raises(ValueError, match="dtype of NumPy's and Arrow's, got complex64"):
        schema({"x": ([], "complex64")})
    with pytest.raises(ValueError, match="an error or None for 4 keys, got 1"):
        to_arrow(KEYS, arrays(), schema(OUTPUTS), [None])
