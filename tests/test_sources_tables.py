"""Parquet tables as sources: which columns are taken, and what happens to damaged ones."""

import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_sources import put, read

from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.sources import Sources, parquet

CONTENT = [b"one", b"two", None, b"", b"five"]
BYTES = pa.array(CONTENT)
STRUCT = pa.array(
    [None if c is None else {"bytes": c, "path": "same.jpg"} for c in CONTENT],
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name="t.parquet", rows=2, **columns):
    pq.write_table(pa.table(columns), name, row_group_size=rows)
    return name


@pytest.mark.parametrize(
    "column",
    [
        BYTES,
        BYTES.cast(pa.large_binary()),
        BYTES.cast(pa.binary_view()),
        BYTES.dictionary_encode(),
        STRUCT,
    ],
    ids=lambda column: str(column.type).split("<")[0],
)
def test_bytes_of_all_types(column):
    table = write(number=pa.array(range(5)), image=column, caption=pa.array(["x.jpg"] * 5))
    found = read(table)
    assert list(found) == [f"t.parquet#{row}" for row in range(5)]
    assert [found[f"t.parquet#{row}"] for row in (0, 1, 4)] == [b"one", b"two", b"five"]
    assert found["t.parquet#2"] == "dsm_ext: the picture of t.parquet#2 is null"
    assert found["t.parquet#3"] == "dsm_ext: the picture of t.parquet#3 is empty"
    sources = Sources([table])
    assert sources.count() == 5
    assert [unit.key for unit in sources.units()] == [
        "t.parquet#0-1", "t.parquet#2-3", "t.parquet#4-4",
    ]  # fmt: skip


def test_a_struct_without_bytes_has_a_path(here):
    put(here, "1.jpg")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": None, "path": "1.jpg"}, {"bytes": None, "path": None}]
    found = read(write(photo=pa.array(values, kind)))
    assert found["t.parquet#0"] == b"1.jpg" and "is null" in found["t.parquet#1"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), "dictionary"])
def test_paths_of_all_types(kind, here):
    put(here, "a/1.jpg", "b c.jpg")
    paths = pa.array(["a/1.jpg", "./b c.jpg", None, "", f"{here}/a/1.jpg", "none.jpg"])
    paths = paths.dictionary_encode() if kind == "dictionary" else paths.cast(kind)
    found = read(write(label=pa.array(range(6)), Image_Path=paths, text=paths), unit=1)
    assert found["a/1.jpg"] == found[f"{here}/a/1.jpg"] == b"a/1.jpg"
    assert found["./b c.jpg"] == b"b c.jpg"
    assert found["t.parquet#2"] == "dsm_ext: the path of t.parquet#2 is null"
    assert found["t.parquet#3"] == "dsm_ext: the path of t.parquet#3 is empty"
    assert found["none.jpg"] == "dsm_ext: no such file: none.jpg" and len(found) == 6


def test_paths_that_are_no_text():
    strings = pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"\xff", b"none"]).buffers()
    )  # Parquet does not check it
    found = read(write(path=strings))
    assert "the path of t.parquet#0 is no text" in found["t.parquet#0"]
    assert found["none"] == "dsm_ext: no such file: none"


def test_a_column_of_keys():
    table = write(image=BYTES, id=pa.array(["a", None, "", "b/c", "\\"]), n=pa.array(range(5)))
    expected = ["a", "t.parquet#1", "t.parquet#2", "b/c", "\\\\"]
    assert list(read(table, key_column="id")) == expected
    assert list(read(table, key_column="n")) == ["0", "1", "2", "3", "4"]
    paths = write("p.parquet", path=pa.array(["x.jpg"]), id=pa.array([b"\xff"]))
    assert list(read(paths, key_column="id")) == ["\\xff"]
    found = read(write("both.parquet", image=pa.array(["x.jpg", "y.jpg"]), b=BYTES[:2]))
    assert list(found.values()) == [b"one", b"two"]  # bytes go before paths
    assert "x.jpg" in read("both.parquet", image_column="image")


@pytest.mark.parametrize(
    "columns, arguments, message",
    [
        ({"a": BYTES, "b": BYTES}, {}, r"is not clear.* Its columns: a \(binary\), b \(binary\)"),
        ({"label": pa.array([1]), "text": pa.array(["x"])}, {}, "label .int64., text .string."),
        ({"image": pa.array([1])}, {}, "is not clear"),
        ({"image": BYTES}, {"image_column": "x"}, r"has no column x. Its columns: image"),
        ({"image": pa.array([1])}, {"image_column": "image"}, "encoded pictures or paths, got int"),
        ({"image": BYTES}, {"key_column": "x"}, "has no column x"),
        ({"image": BYTES[:1], "k": pa.array([0.5])}, {"key_column": "k"}, "integers, got double"),
    ],
)
def test_columns_that_are_not_clear(columns, arguments, message):
    write(**columns)
    with pytest.raises(ValueError, match=f"dsm_ext: .*t.parquet.*{message}"):
        Sources(["t.parquet"], **arguments)


def test_only_the_first_table_is_checked_at_once():
    """A damaged table among many is a row, so that the others are read."""
    write("a.parquet", image=BYTES)
    write("b.parquet", label=pa.array([1]))
    with open("c.parquet", "wb") as file:
        file.write(b"PAR1 and more")
    os.makedirs("d.parquet")
    found = read("[a-d].parquet")
    assert len(found) == 7 and found["a.parquet#0"] == b"one"
    assert "is not clear" in found["b.parquet"]
    assert "c.parquet is no Parquet file" in found["c.parquet"]
    assert Sources(["*.parquet"]).count() is None
    with pytest.raises(ValueError, match="c.parquet is no Parquet file"):
        Sources(["c.parquet", "a.parquet"])


def test_damaged_pages(here):
    table = write(image=pa.array([os.urandom(100_000) for _ in range(60)]), rows=30)
    whole = read(table)
    content = bytearray((here / table).read_bytes())
    content[: 2**21] = b"\xff" * 2**21  # the first row group
    (here / table).write_bytes(content)
    found = read(table)
    assert "its rows 0 to 29 are lost" in found.pop("t.parquet#0-29")
    assert found == {key: whole[key] for key in list(whole)[30:]}
    (here / table).write_bytes(content[:-1])
    with pytest.raises(ValueError, match="no Parquet file"):
        Sources([table])
    units = list(Sources([write("u.parquet", image=BYTES)]).units())
    os.unlink("u.parquet")  # it vanishes between finding and reading
    (lost,) = units[0].pictures()
    with pytest.raises(ValueError, match="no such file: u.parquet"):
        lost.read()


def test_memory_does_not_grow_with_a_row_group(here):
    column = pa.array([os.urandom(20_000) for _ in range(1000)])
    pq.write_table(pa.table({"image": column}), "t.parquet", write_batch_size=16)
    del column
    (unit,) = Sources(["t.parquet"]).units()
    before = pa.total_allocated_bytes()
    tracemalloc.start()  # what is read of the file is Python's bytes, the pages are pyarrow's
    try:
        pages = max(
            len(picture.read()) and pa.total_allocated_bytes() - before
            for picture in unit.pictures()
        )
        read_ahead = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pages + read_ahead < 10 * 2**20  # of 20 MB


def test_a_known_row_group_is_not_read(monkeypatch):
    table = write(image=BYTES, id=pa.array(list("abcde")))
    batches = parquet.Rows._batches
    read_columns = []

    def spied(self, file, names, size):
        read_columns.append((self.group, names))
        return batches(self, file, names, size)

    monkeypatch.setattr(parquet.Rows, "_batches", spied)
    known = KeySet(["a", "b", "d"])
    assert list(read(table, known=known.known, key_column="id")) == ["c", "e"]
    both = ["image", "id"]
    assert read_columns == [(0, ["id"]), (1, ["id"]), (1, both), (2, ["id"]), (2, both)]
    read_columns.clear()
    known = KeySet([f"t.parquet#{row}" for row in range(4)])
    assert list(read(table, known=known.known)) == ["t.parquet#4"]
    assert read_columns == [(2, ["image"])]
