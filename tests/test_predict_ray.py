"""Running engines on a Ray cluster of three nodes, one of which is lost in the middle."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
from models import prepared
from pictures import colours
from PIL import Image
from predict_engines import SCHEMA, Numbered, Numbers, embedding_of

import dsm_ext
from dsm_ext.predict import run as predict
from dsm_ext.predict.engine import EngineSettings
from dsm_ext.predict.progress import Progress
from dsm_ext.predict.result.output_folder import OutputFolder
from dsm_ext.predict.run import Job
from dsm_ext_reader.sources import Sources

pytest.importorskip("ray.data", reason="Ray Data is not installed")

import ray
from ray.cluster_utils import Cluster

from dsm_ext.predict.ray_data import Layout, run_on_ray

# Ray Data's own settings call what is deprecated in them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster():
    """A cluster of three nodes with one CPU each. Its workers find the package and this folder."""
    before = os.environ.copy()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


def units(pictures, each=16):
    return [Numbers(start, min(each, pictures - start)) for start in range(0, pictures, each)]


def result(folder):
    """The rows of a result, by key. No key is there twice."""
    rows = pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pylist()
    repeated = [key for key, count in Counter(row["key"] for row in rows).items() if count > 1]
    assert not repeated
    return {row["key"]: row for row in rows}


def wait_for_shards(folder, count):
    end = time.monotonic() + 120
    while len(list(Path(folder).glob("*.parquet"))) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def check(folder, pictures):
    rows = result(folder)
    assert sorted(rows) == [key for unit in units(pictures) for key in unit.keys]
    for key, row in rows.items():
        failed = int(key[:6]) % 100 == 99
        assert row["error"] == ("broken" if failed else None)
        assert row["embedding"] == (None if failed else embedding_of(key).tolist())


def test_every_picture_has_a_row(cluster, tmp_path):
    """A store is busy for a moment, so Ray calls the engine again. A second run does new ones."""
    settings = {"fails_at": str(tmp_path / "failed")}
    folder, reports = tmp_path / "out", []
    with OutputFolder(folder, {}, SCHEMA) as output:
        counts = run_on_ray(
            cluster.address, units(1000), settings, output, layout=Layout(2, cpus=1),
            engine=Numbered, report=lambda rows, errors: reports.append((rows, errors)),
        )  # fmt: skip
        assert counts == {"rows": 1000, "errors": 10}
        assert reports[-1] == (1000, 10)
        output.close(complete=True)
    assert (tmp_path / "failed").exists()
    assert not ray.is_initialized()
    with OutputFolder(folder, {}, SCHEMA) as output:
        counts = run_on_ray(
            cluster.address, units(1120), {}, output, layout=Layout(1, cpus=1), engine=Numbered
        )
        assert counts == {"rows": 120, "errors": 1}
        assert output.close(complete=True)["counts"]["rows"] == 1120
    check(folder, 1120)


def tiny():
    return prepared(img_size=32, patch_size=8, embed_dim=64, depth=2)


def encoded(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def pictures(folder, count):
    """Thousands of small JPEGs, 10 of which differ; one in 100 is damaged. By path: which it is."""
    folder.mkdir()
    contents = [encoded(Image.fromarray(colours(32, 32, seed=seed))) for seed in range(10)]
    found = {}
    for i in range(count):
        broken = i % 100 == 99
        path = folder / f"{i:05}.jpg"
        path.write_bytes(contents[i % 10][:200] if broken else contents[i % 10])
        found[str(path)] = None if broken else i % 10
    return found, contents


def test_a_node_is_lost_in_the_middle(cluster, tmp_path, monkeypatch):
    """The job runs as the command does, with a path of the model that is not absolute."""
    monkeypatch.chdir(tmp_path)
    dsm_ext.export(dsm_ext.from_timm(tiny(), "tome:r=2"), "model")
    found, contents = pictures(tmp_path / "pictures", 3000)
    expected = dsm_ext.Predictor("model")({"bytes": np.array(contents, object)})["embedding"]
    lost = cluster.add_node(**NODE)
    seen = []

    def kill(rows, errors):
        if not seen and rows:
            seen.append(rows)
            cluster.remove_node(lost, allow_graceful=False)

    monkeypatch.setattr(Progress, "report", lambda self, rows, errors: kill(rows, errors))
    job = Job(
        Sources([str(tmp_path / "pictures")]), "out",
        EngineSettings({"model": "model"}, batch=16, decoders=1), workers=3,
        cluster=predict.Cluster(cluster.address, 1, 0),
    )  # fmt: skip
    summary = predict.run(job)
    assert 0 < seen[0] < 3000
    assert (summary["rows"], summary["errors"]) == (3000, 30)
    assert summary["manifest"]["complete"]
    rows = result("out")
    assert rows.keys() == found.keys()
    for path, number in found.items():
        assert (rows[path]["error"] is None) == (number is not None)
        if number is not None:
            np.testing.assert_allclose(rows[path]["embedding"], expected[number], atol=1e-5)


DRIVER = """
    import sys
    from predict_engines import SCHEMA, Numbered
    from test_predict_ray import Layout, OutputFolder, run_on_ray, units
    with OutputFolder(sys.argv[2], {}, SCHEMA) as output:
        print(len(output.done), flush=True)
        try:
            run_on_ray(
                sys.argv[1], units(3000), {"seconds": 0.002}, output, layout=Layout(1, cpus=1),
                engine=Numbered, shard_rows=500,
            )
            output.close(complete=True)
        except KeyboardInterrupt:
            print("interrupted")
"""


def test_a_driver_that_is_ended_goes_on(cluster, tmp_path):
    """It is interrupted by Ctrl-C and keeps its shards, then killed, and then comes to its end."""
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), cluster.address, str(tmp_path)]
    done = 0
    for number, outputs in ((signal.SIGINT, "interrupted\n"), (signal.SIGKILL, "")):
        shards = len(list(tmp_path.glob("*.parquet")))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as driver:
            wait_for_shards(tmp_path, shards + 1)
            driver.send_signal(number)
            out, err = driver.communicate(timeout=30)
        assert (out, err) == (f"{done}\n{outputs}", "")
        done = len(result(tmp_path))
        assert 0 < done < 3000
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        run_on_ray(
            cluster.address, units(3000), {}, output, layout=Layout(1, cpus=1), engine=Numbered
        )
        output.close(complete=True)
    check(tmp_path, 3000)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("constructor", "dsm_ext: expected a model, got none"),
        ("run", "dsm_ext: expected a picture, got none"),
    ],
)
def test_an_engines_error_is_raised_as_it_is(place, message, cluster, tmp_path, capfd):
    with (
        OutputFolder(tmp_path, {}, SCHEMA) as output,
        pytest.raises(ValueError) as raised,
    ):
        run_on_ray(
            cluster.address, units(64), {"fails_at": place}, output, layout=Layout(1, cpus=1),
            engine=Numbered,
        )  # fmt: skip
    assert str(raised.value) == message
    assert type(raised.value) is ValueError
    assert capfd.readouterr().err == ""


def test_a_writers_error_is_raised_as_it_is(cluster, tmp_path):
    folder = tmp_path / "out"
    with OutputFolder(folder, {}, SCHEMA) as output:
        (folder / "_manifest.json").rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match="all machines to share the output folder"):
            run_on_ray(
                cluster.address, units(64), {}, output, layout=Layout(1, cpus=1), engine=Numbered
            )
