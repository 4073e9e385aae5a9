"""The folder of a result: writing to it, going on with it, and errors of the disk."""

import os
import resource
import signal
import sys
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from predictions import SCHEMA, SETTINGS, content, failed, opened, rows
from pyarrow import fs

from dsm_ext.predict.result import shards
from dsm_ext.predict.result.output_folder import OutputFolder
from dsm_ext.predict.result.shards import write_shard


@pytest.fixture(params=["local", "memory"])
def out(request, tmp_path):
    """A folder of this machine, and one of another file system."""
    if request.param == "local":
        yield str(tmp_path / "a b" / "out")
        return
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    name = uuid.uuid4().hex
    yield f"memory://{name}/out"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def found(out):
    """{key: error} of a folder anywhere, through the settled folder of a run."""
    with opened(out) as output:
        filesystem, path = output.place
        names = [info.path for info in filesystem.get_file_info(fs.FileSelector(path))]
        tables = [
            pq.read_table(name, filesystem=filesystem) for name in names if name.endswith("quet")
        ]
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    assert not [name for name in names if name.endswith(".part")]
    return dict(zip(table["key"].to_pylist(), table["error"].to_pylist(), strict=True))


def test_a_second_run_goes_on(out):
    with opened(out) as output:
        assert len(output.done) == output.rows == 0
        output.write(rows("a", "b"))
        output.write(failed("c"))
        output.flush()
        output.write(rows("d"))
        assert output.close(complete=True)["counts"] == {"rows": 4, "errors": 1, "shards": 2}
    with opened(out) as output:
        assert output.done.known(["a", "b", "c", "d", "e"]).tolist() == [True] * 4 + [False]
        assert (output.rows, output.errors) == (4, 1)
        output.write(rows("a", "e", "e"))  # a mistake of the caller's
        manifest = output.close(complete=False)
        assert output.close(complete=True) is manifest
    assert manifest["counts"] == {"rows": 5, "errors": 1, "shards": 3}
    assert [run["rows"] for run in manifest["runs"]] == [4, 1]
    assert [run["errors"] for run in manifest["runs"]] == [1, 0]
    assert [run["ended_by_itself"] for run in manifest["runs"]] == [True, False]
    assert manifest["complete"] is False and manifest["settings"] == SETTINGS
    assert found(out) == {"a": None, "b": None, "c": "c is broken", "d": None, "e": None}


def test_errors_are_taken_out_to_be_done_anew(out, capsys):
    with opened(out) as output:
        output.write(rows("a", "b"))
        output.write(failed("c"))
        output.flush()
        output.write(failed("d", "e"))
    with opened(out) as output:
        assert output.errors == 3 and output.done.known(["c"]).all()
    assert capsys.readouterr().err == ""
    with opened(out, retry_errors=True) as output:
        assert (output.rows, output.errors, len(output.done)) == (2, 0, 2)
        output.write(rows("c", "d"))
        output.write(failed("e"))
        manifest = output.close(complete=True)
    assert f"taken out of {out} to do pictures with an error anew: 3\n" in capsys.readouterr().err
    assert manifest["counts"] == {"rows": 5, "errors": 1, "shards": 2}
    assert manifest["runs"][-1]["rows"] == 3
    assert found(out) == {"a": None, "b": None, "c": None, "d": None, "e": "e is broken"}


def test_shards_of_other_processes(out, capsys):
    with opened(out) as output:
        output.write(rows("a"))
        output.flush()
        names = {write_shard(*output.place, table(*keys)) for keys in (["b", "c"], ["c", "b"])}
        assert len(names) == 1  # a task that is run again replaces its own shard
        write_shard(*output.place, table("c", "d"))
        write_shard(*output.place, table("b"))
        output.settle()
        assert output.rows == len(output.done) == 4
        manifest = output.close(complete=True)
    assert (
        f"taken out of {out} because their keys were there already: 2\n" in capsys.readouterr().err
    )
    assert manifest["counts"]["rows"] == manifest["runs"][0]["rows"] == 4
    assert found(out) == dict.fromkeys("abcd")


def table(*keys):
    return pa.Table.from_batches([rows(*keys)])


def test_files_that_other_programs_put_there_stay(tmp_path):
    with opened(tmp_path) as output:
        output.write(rows("a"))
    (tmp_path / "notes.txt").touch()
    (tmp_path / "_part-x.parquet.0123abcd.part").touch()
    with opened(tmp_path) as output:
        assert output.rows == 1
    assert (tmp_path / "notes.txt").exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_shard_ends_after_its_time_or_size(tmp_path, monkeypatch):
    with opened(tmp_path / "time", shard_seconds=0) as output:
        for key in "abc":
            output.write(rows(key))
    monkeypatch.setattr("dsm_ext.predict.result.output_folder.SHARD_BYTES", 1000)
    with opened(tmp_path / "size") as output:
        for start in range(0, 300, 100):
            output.write(rows(*map(str, range(start, start + 100))))
    for name, count in (("time", 3), ("size", 300)):
        assert len(list((tmp_path / name).glob("*.parquet"))) == 3
        assert len(content(tmp_path / name)) == count


def test_row_groups_have_a_sensible_size(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 4000)
    keys = [str(i) for i in range(1000)]
    with opened(tmp_path) as output:
        for start in range(0, 1000, 10):
            output.write(rows(*keys[start : start + 10]))
        output.write(failed("bad"))
    (shard,) = tmp_path.glob("*.parquet")
    metadata = pq.read_metadata(shard)
    assert 3 < metadata.num_row_groups < 20
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    before = content(tmp_path)
    with opened(tmp_path, retry_errors=True) as output:  # this writes the shard anew
        assert output.rows == 1000
    assert 3 < pq.read_metadata(shard).num_row_groups < 20
    assert content(tmp_path) == {key: before[key] for key in keys}


def test_a_full_disk_is_said_plainly_and_what_was_finished_is_kept(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    keys = [str(i) for i in range(3000)]
    with opened(tmp_path) as output:
        output.write(rows("a", "b"))
        output.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            output.write(rows(*keys))
            with pytest.raises(
                OSError, match=r"part-.*\.parquet cannot be written: File too large"
            ):
                output.flush()
            manifest = output.close(complete=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert manifest["counts"] == {"rows": 2, "errors": 0, "shards": 1}
    assert manifest["complete"] is manifest["runs"][0]["ended_by_itself"] is False
    assert not list(tmp_path.glob("*.part")) and set(content(tmp_path)) == {"a", "b"}
    with opened(tmp_path) as output:
        output.write(rows(*keys))
    assert len(content(tmp_path)) == 3002


def test_an_error_of_the_writing_thread_reaches_the_caller(tmp_path):
    with opened(tmp_path) as output:
        for file in tmp_path.iterdir():
            file.unlink()
        tmp_path.rmdir()
        with pytest.raises(FileNotFoundError, match=r"part-.* cannot be written: No such file"):
            for i in range(100):
                output.write(rows(str(i)))
        assert output.close(complete=True)["counts"]["rows"] == 0
    with pytest.raises(RuntimeError, match="is closed"):
        output.write(rows("a"))


def test_interrupts_of_the_caller_break_nothing(tmp_path):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    kept = set()
    try:
        for attempt in range(12):
            output = opened(tmp_path, shard_seconds=0.005)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.004 * attempt)
                for i in range(10_000):
                    keys = [f"{attempt} {i} {j}" for j in range(20)]
                    output.write(rows(*keys))
                    kept.update(keys)
                pytest.fail("no interrupt arrived")
            except KeyboardInterrupt:
                output.close(complete=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert kept and kept <= set(content(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="file names of bytes")
def test_a_folder_whose_name_is_not_utf8(tmp_path):
    out = os.fsdecode(bytes(tmp_path) + b"/\xff\n")
    with OutputFolder(out, {}, SCHEMA) as output:
        output.write(rows("a"))
        output.flush()
        write_shard(*output.place, table("b"))
        output.settle()
        assert output.rows == 2
    with OutputFolder(out, {}, SCHEMA) as output:
        assert output.rows == 2


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened("s3:out") as output:
        monkeypatch.chdir("/")
        monkeypatch.chdir(tmp_path)
        assert output.place[1] == f"{tmp_path}/s3:out"
