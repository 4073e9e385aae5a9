"""A run that is killed at random moments, and gone on with by the same command."""

import os
import random
import signal
import time

import numpy as np
import pytest
from predict_runs import finished_rows, manifest, many_pictures, processes_of, rows, wait_for

PICTURES = 4000
FORGETS = 0.2  # seconds: a killed run loses what it did in less time


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return many_pictures(tmp_path_factory.mktemp("many") / "pictures", PICTURES)


@pytest.fixture(scope="module")
def undisturbed(launcher, tiny_folder, pictures, tmp_path_factory):
    """The rows of a run that nobody kills."""
    place = tmp_path_factory.mktemp("undisturbed")
    run = launcher.start(place / "said", *arguments(tiny_folder, pictures, place / "out"))
    assert run.wait(60) == 0, run.said()
    return rows(place / "out")


def arguments(model, pictures, out, *more):
    return [
        *("predict", model, "--images", pictures, "-o", out, "--batch", "7"),
        *("--shard-seconds", FORGETS, *more),
    ]  # fmt: skip


@pytest.mark.parametrize("workers, kills", [(1, 10), (2, 2)])
def test_every_key_once_after_kills(
    launcher, tiny_folder, pictures, undisturbed, tmp_path, workers, kills
):
    choose = random.Random(workers)
    command = arguments(tiny_folder, pictures, tmp_path / "out", "--workers", workers)
    out = tmp_path / "out"
    killed, kept = 0, 0
    while killed < kills:
        run = launcher.start(tmp_path / "said", *command)
        if choose.random() < 0.7:  # else while it starts
            wait_for(lambda: run.status() is not None or finished_rows(out) > kept)
        time.sleep(choose.uniform(0, 2 * FORGETS))
        os.kill(run.pid, signal.SIGKILL)
        status = run.wait()
        assert status == -signal.SIGKILL, (killed, status, run.said())
        wait_for(lambda: not processes_of(run.pid), 5)
        assert finished_rows(out) >= kept
        kept = finished_rows(out)
        killed += 1
    assert 0 < kept < PICTURES
    run = launcher.start(tmp_path / "said", *command)
    assert run.wait(60) == 0, run.said()
    check(rows(out), undisturbed)
    assert not list(out.glob("*.part"))
    content = manifest(out)
    assert content["complete"] and content["counts"]["rows"] == PICTURES
    assert sum(one["rows"] for one in content["runs"]) == PICTURES


def check(found, expected):
    assert found.keys() == expected.keys()
    different = 0
    for key, row in found.items():
        assert row["error"] is None
        values, wanted = np.array(row["embedding"]), np.array(expected[key]["embedding"])
        different += not np.array_equal(values, wanted)
    print(different)
    assert different == 0
