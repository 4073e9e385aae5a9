"""A run that is killed between any two operations on files loses no shard and doubles no key."""

import os
import shutil

import pyarrow as pa
import pytest
from predictions import content, failed, opened, rows

from dsm_ext.predict.result import output_folder
from dsm_ext.predict.result.shards import write_shard
from dsm_ext.predict.result.stores import open_store


class Killed(BaseException):
    """Stands for SIGKILL. After it, every operation of the same process fails too."""


class MortalStore:
    """A folder whose process is killed at an operation: before it, or with half of a write done."""

    def __init__(self, store, operations):
        self.store, self.left = store, operations
        self.files = []

    def __getattr__(self, name):
        method = getattr(self.store, name)
        if name in ("path", "place", "folder"):
            return method

        def mortal(*arguments):
            self.live()
            if name != "finish":
                result = method(*arguments)
                if name in ("create", "open"):
                    self.files.append(result)
                return MortalFile(result, self) if name == "create" else result
            file, *rest = arguments
            return method(file.file, *rest)

        return mortal

    def live(self):
        self.left -= 1
        if self.left < 0:
            for file in self.files:
                file.close()
            raise Killed


class MortalFile:
    def __init__(self, file, store):
        self.file, self.store = file, store
        self.closed = False

    def write(self, data):
        if self.store.left == 0:
            self.file.write(bytes(data)[: len(data) // 2])
        self.store.live()
        return self.file.write(data)

    def tell(self):
        return self.file.tell()

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder that a run left with errors, rows of a task that ran twice, and half a shard."""
    out = tmp_path_factory.mktemp("begun") / "out"
    with opened(out) as output:
        output.write(rows("a", "b"))
        output.write(failed("c"))
        output.flush()
        output.write(failed("d"))
        output.flush()
        for keys in (("a", "e", "f"), ("b", "e", "g")):
            write_shard(*output.place, pa.Table.from_batches([rows(*keys)]))
    (out / "_part-x.parquet.01234567.part").write_bytes(b"PAR1")
    return out


GOOD = set("abefg")
BAD = set("cdl")


def work(out, retry_errors, finished):
    """The work of a run. ``finished`` gets the keys that it must not lose."""
    with opened(out, retry_errors=retry_errors) as output:
        for keys in ("cd", "hi", "jk"):
            todo = [key for key in keys if not output.done.known([key])[0]]
            output.write(rows(*todo))
            output.flush()
            finished.update(todo)
        output.write(failed("l"))
        assert output.close(complete=True)["complete"]
        finished.add("l")


@pytest.mark.parametrize(
    "kind, retry_errors", [("local", False), ("local", True), ("fsspec", True)]
)
def test_killed_at_every_operation(tmp_path, monkeypatch, begun, kind, retry_errors):
    if kind == "fsspec":
        pytest.importorskip("fsspec", reason="fsspec is not installed")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is lost here
    url = "local://" if kind == "fsspec" else ""
    step = 3 if kind == "fsspec" else 1
    operations, alive = -step, False
    while not alive:
        operations += step
        out = tmp_path / str(operations)
        shutil.copytree(begun, out)
        finished, stores = set(), []

        def mortal(where, operations=operations, stores=stores):
            stores.append(MortalStore(open_store(where), operations))
            return stores[-1]

        with monkeypatch.context() as patch:
            patch.setattr(output_folder, "open_store", mortal)
            try:
                work(f"{url}{out}", retry_errors, finished)
                alive = True
            except Killed:
                pass
        with opened(out) as output:  # this takes doubled keys out
            assert not list(out.glob("*.part"))
            there = content(out)
            assert (output.rows, len(output.done)) == (len(there), len(there))
            assert output.errors == sum(error is not None for error in there.values())
            manifest = output.close(complete=False)
        assert manifest["counts"]["rows"] == len(there)
        written = sum(key not in GOOD and not (key in "cd" and there[key]) for key in there)
        assert sum(run["rows"] for run in manifest["runs"][1:]) == written
        assert there.keys() >= GOOD | finished
        work(out, retry_errors, set())
        after = content(out)
        assert set(after) == set("abcdefghijkl")
        assert {key for key in after if after[key]} == ({"l"} if retry_errors else set(after) & BAD)
        shutil.rmtree(out)
    assert operations > 40
