"""Running engines on a Ray cluster of three nodes, one of which is lost in the middle."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.dataset
import pytest
from predict_engines import SCHEMA, Numbered, Numbers, embedding_of

from dsm_ext.predict.output_folder import OutputFolder

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
    end = time.monotonic() + 60
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
    reports = []
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        counts = run_on_ray(
            cluster.address, units(1000), {}, output, layout=Layout(2, cpus=1), engine=Numbered,
            report=lambda rows, errors: reports.append((rows, errors)),
        )  # fmt: skip
        assert counts == {"rows": 1000, "errors": 10}
        assert reports[-1] == (1000, 10)
        assert output.close(complete=True)["counts"]["rows"] == 1000
    check(tmp_path, 1000)
    assert not ray.is_initialized()


def test_a_node_is_lost_in_the_middle(cluster, tmp_path):
    lost = cluster.add_node(**NODE)
    killed = []

    def kill():
        wait_for_shards(tmp_path, 1)
        killed.append(len(result(tmp_path)))
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    with OutputFolder(tmp_path, {}, SCHEMA) as output:
        run_on_ray(
            cluster.address, units(6000), {"seconds": 0.004}, output, layout=Layout(4, cpus=1),
            engine=Numbered, shard_rows=500,
        )  # fmt: skip
        killer.join()
        output.close(complete=True)
    assert 0 < killed[0] < 6000
    check(tmp_path, 6000)


DRIVER = """
    import sys
    from predict_engines import SCHEMA, Numbered
    from test_predict_ray import Layout, OutputFolder, run_on_ray, units
    with OutputFolder(sys.argv[2], {}, SCHEMA) as output:
        print(len(output.done), flush=True)
        try:
            run_on_ray(
                sys.argv[1], units(4000), {"seconds": 0.004}, output, layout=Layout(3, cpus=1),
                engine=Numbered, shard_rows=500,
            )
            output.close(complete=True)
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_killed_driver_is_started_again(by, cluster, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), cluster.address, str(tmp_path)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_shards(tmp_path, 1)
    driver.send_signal(by)
    start = time.monotonic()
    out, err = driver.communicate(timeout=60)
    print(time.monotonic() - start, err)
    assert out == ("0\ninterrupted\n" if by == signal.SIGINT else "0\n")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert 0 < int(again.stdout) < 4000
    print(again.stderr)
    check(tmp_path, 4000)


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
