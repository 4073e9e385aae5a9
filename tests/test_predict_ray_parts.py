"""Parts of running on Ray that need no cluster."""

import signal

import pyarrow as pa
import pytest
from predict_engines import SCHEMA, Numbered, Numbers
from predict_runs import manifest, write_picture
from pyarrow import fs

pytest.importorskip("ray.data", reason="Ray Data is not installed")

import ray

from dsm_ext.predict.engine import EngineSettings
from dsm_ext.predict.ray_data import Layout, run_on_ray, session
from dsm_ext.predict.ray_data.engine_actor import EngineActor, packed, unpacked
from dsm_ext.predict.ray_data.errors import plain_error
from dsm_ext.predict.ray_data.rows import row_bytes
from dsm_ext.predict.ray_data.sink import ShardSink, check_place, rows_of_shards
from dsm_ext.predict.result.columns import error_rows, schema
from dsm_ext.predict.result.output_folder import OutputFolder
from dsm_ext.predict.result.shards import write_shard
from dsm_ext.predict.run import Cluster, Job, run
from dsm_ext_reader.sources import Sources


def test_a_unit_travels():
    unit = Numbers(7, 64)
    assert unpacked(packed(unit)) == unit


def test_the_bytes_of_a_row():
    assert row_bytes(SCHEMA) == 64 + 64 + 4 * 2
    tokens = schema({"tokens": ([50, 384], "float32"), "top5_class": ([5], "int32")})
    assert row_bytes(tokens) == 128 + 50 * 384 * 4 + 5 * 4


@pytest.mark.parametrize(
    ("workers", "gpus", "units", "row", "expected"),
    [
        (2, 0, 15_625, 1664, 8),  # a million pictures on two workers: 512 a task
        (2, 0, 16, 1664, 2),  # few pictures: every worker gets four tasks
        (2, 0, 3, 1664, 1),
        (2, 0, 15_625, 300_000, 3),  # tokens: 64 MB a task
        (2, 0, 15_625, 9_000_000, 1),
        (100, 1, 1_562_500, 1664, 100),
        (16_000, 0, 15_625_000, 1664, 244),  # 40,000 rows are 64 MB
    ],
)
def test_the_size_of_a_task(workers, gpus, units, row, expected):
    assert Layout(workers, gpus=gpus).units_per_task(workers, units, row) == expected


def test_the_size_of_a_shard():
    assert rows_of_shards(SCHEMA, 2) == 4096
    assert rows_of_shards(SCHEMA, 1000) == 32768
    assert rows_of_shards(schema({"tokens": ([197, 384], "float32")}), 1000) == 221


@pytest.mark.parametrize("arguments", [{"cpus": 0}, {"cpus": -1, "gpus": 1}])
def test_a_worker_without_a_processor_is_refused(arguments):
    with pytest.raises(ValueError, match="expected CPUs or a GPU for a worker, got cpus="):
        Layout(**arguments)


@pytest.mark.parametrize("workers", [0, -1, (0, 3), (3, 2)])
def test_no_workers_are_refused(workers):
    with pytest.raises(ValueError, match="expected 1 or more workers, got"):
        Layout(workers)


def test_an_address_of_ray_client_is_refused(tmp_path):
    with (
        OutputFolder(tmp_path, {}, SCHEMA) as output,
        pytest.raises(ValueError, match="expected local, auto or host:port .* got ray://head:1;"),
    ):
        run_on_ray("ray://head:1", [Numbers(0, 1)], {}, output)


def test_no_pictures_need_no_cluster(tmp_path):
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        assert run_on_ray("ray://head:1", [], {}, output) == {"rows": 0, "errors": 0}


def test_a_task_that_writes_again_replaces_its_shard(tmp_path):
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        sink = ShardSink(output, 10)
        rows = [pa.Table.from_batches(Numbered({}, None).run([Numbers(i, 16)])) for i in (0, 90)]
        written = [sink.write(blocks, None) for blocks in (rows, rows[::-1])]
        assert written == [{"rows": 32, "errors": 1}] * 2
        assert sink.write([SCHEMA.empty_table()], None) == {"rows": 0, "errors": 0}
        output.settle()
        counts = output.close(complete=True)["counts"]
    assert counts == {"rows": 32, "errors": 1, "shards": 1}


def test_another_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected dsm_ext 0\.0 on all machines, got "):
        EngineActor(
            engine=Numbered, settings={}, done=None, place=(fs.LocalFileSystem(), str(tmp_path)),
            schema=SCHEMA, count=None, version="0.0",
        )  # fmt: skip


def test_a_folder_that_a_machine_does_not_see(tmp_path):
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        place = output.place
        check_place(place)
        (tmp_path / "_manifest.json").rename(tmp_path / "_elsewhere")
        with pytest.raises(FileNotFoundError, match="share the output folder, got no .*manifest"):
            check_place(place)
        (tmp_path / "_elsewhere").rename(tmp_path / "_manifest.json")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\nFailed to do it after 1/1 attempts (total backoff 0s).\nTo x"), "a"),
        (
            OSError(28, "full", "f", "Failed to do it after 1/1 attempts (total backoff 0s)."),
            "[Errno 28] full: 'f'",
        ),
        (KeyError("b"), "'b'"),
    ],
)
def test_advice_is_cut_off(error, text):
    plain = plain_error(error)
    assert (type(plain), str(plain)) == (type(error), text)


def test_ray_does_not_change_what_a_request_to_end_does(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    called = []

    def init(**options):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        called.append(options["address"])

    monkeypatch.setattr(ray, "init", init)
    session._connect("auto")
    assert called == ["auto"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_other_processes_wrote_is_counted_after_a_stop(
    tiny_folder, tmp_path, monkeypatch, capsys
):
    write_picture(tmp_path / "pictures" / "1.png")
    out = tmp_path / "out"

    def stopped(address, units, settings, output, **options):
        keys = Numbers(0, 5).keys
        table = pa.Table.from_batches([error_rows(keys, ["broken"] * 5, output.schema)])
        write_shard(*output.place, table)
        raise KeyboardInterrupt

    monkeypatch.setattr("dsm_ext.predict.ray_data.run_on_ray", stopped)
    job = Job(
        Sources([str(tmp_path / "pictures")]), str(out),
        EngineSettings({"model": str(tiny_folder)}), cluster=Cluster("auto", 1, 0),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        run(job)
    said = capsys.readouterr().err
    assert said == f"dsm_ext: {out} keeps 5 rows; the same command goes on after them\n"
    content = manifest(out)
    assert content["counts"] == {"rows": 5, "errors": 5, "shards": 1}
    assert content["runs"][0]["rows"] == 5 and not content["complete"]
