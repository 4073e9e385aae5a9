"""A run that is interrupted ends soon, keeps what is done and says how to go on."""

import os
import signal
import time
from pathlib import Path

import pytest
from commands import run, start
from predict_runs import finished_rows, manifest, many_pictures, rows, wait_for

PICTURES = 5000
ENDED = (130, -signal.SIGINT)  # the second where another interrupt comes when all is done


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return many_pictures(tmp_path_factory.mktemp("many") / "pictures", PICTURES)


@pytest.fixture
def begun(launcher, tiny_folder, pictures, tmp_path):
    """A run that has finished a shard, and its folder."""
    out = tmp_path / "out"
    begun = launcher.start(
        *(tmp_path / "said", "predict", tiny_folder, "--images", pictures, "-o", out),
        *("--batch", 7, "--shard-seconds", 0.2),
    )
    begun.wait_for_rows(out)
    return begun, out


def check(begun, out):
    """The folder is in order. Gives the line that the command must have said."""
    kept = finished_rows(out)
    assert 0 < kept < PICTURES and len(rows(out)) == kept
    assert {path.suffix for path in out.iterdir() if path.name != "_lock"} == {".parquet", ".json"}
    content = manifest(out)
    assert content["counts"]["rows"] == content["runs"][0]["rows"] == kept
    assert not content["complete"] and not content["runs"][0]["ended_by_itself"]
    begun.wait_for_children()
    return f"dsm_ext: {out} keeps {kept} rows; the same command goes on after them\n"


def test_the_interrupt_key(begun, tiny_folder, pictures, capsys):
    begun, out = begun
    os.killpg(begun.pid, signal.SIGINT)
    assert begun.wait() == 130, begun.said()
    assert begun.said() == check(begun, out)
    kept = len(rows(out))
    again = run(capsys, "predict", tiny_folder, "--images", pictures, "-o", out)
    assert again.out.startswith(f"{PICTURES - kept} pictures, in ")
    assert len(rows(out)) == PICTURES


def test_a_request_to_end(begun):
    begun, out = begun
    os.kill(begun.pid, signal.SIGTERM)
    assert begun.wait() == 130, begun.said()
    assert begun.said() == check(begun, out)


def test_two_interrupts_are_as_one(begun):
    begun, out = begun
    os.killpg(begun.pid, signal.SIGINT)
    time.sleep(0.02)  # two signals that wait are one
    os.killpg(begun.pid, signal.SIGINT)
    assert begun.wait() in ENDED
    assert check(begun, out) in begun.said()


def test_many_interrupts_leave_the_folder_in_order(begun, tiny_folder, pictures, capsys):
    begun, out = begun
    while begun.status() is None:
        os.killpg(begun.pid, signal.SIGINT)
        time.sleep(0.001)
    assert begun.status() in ENDED
    kept = finished_rows(out)
    assert kept
    again = run(capsys, "predict", tiny_folder, "--images", pictures, "-o", out)
    assert again.out.startswith(f"{PICTURES - kept} pictures, in ")
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("library", ["libtorch_cpu", "_C.cpython"])
def test_interrupted_while_it_is_loading(library, tiny_folder, pictures, tmp_path):
    out = tmp_path / "out"
    loading = start("predict", tiny_folder, "--images", pictures, "-o", out, stdout=-1)
    maps = Path(f"/proc/{loading.pid}/maps")
    wait_for(lambda: library in maps.read_text() or loading.poll() is not None, 60)
    loading.send_signal(signal.SIGINT)
    said, errors = loading.communicate()
    assert loading.returncode == 130, errors
    assert said == errors == ""
    assert not out.exists()
