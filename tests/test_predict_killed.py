"""A run that is killed at random moments, and gone on with by the same command."""

import os
import random
import signal
import time

import pytest
from predict_runs import finished_rows, manifest, many_pictures, rows

PICTURES = 8000
SECONDS = 0.1  # a killed run loses what it did in this time


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return many_pictures(tmp_path_factory.mktemp("many") / "pictures", PICTURES)


@pytest.fixture(scope="module")
def undisturbed(launcher, tiny_folder, pictures, tmp_path_factory):
    """The rows of a run that nobody kills."""
    place = tmp_path_factory.mktemp("undisturbed")
    run = launcher.start(place / "said", *command(tiny_folder, pictures, place / "out"))
    assert run.wait(60) == 0, run.said()
    return rows(place / "out")


def command(model, pictures, out, *more):
    return [
        *("predict", model, "--images", pictures, "-o", out, "--batch", "7"),
        *("--shard-seconds", SECONDS, *more),
    ]


def check(out, undisturbed):
    """Every key is there once, and batches that a kill has cut elsewhere change no bit."""
    assert rows(out) == undisturbed
    assert not list(out.glob("*.part"))
    content = manifest(out)
    assert content["complete"] and content["counts"]["rows"] == PICTURES
    assert sum(one["rows"] for one in content["runs"]) == PICTURES


def test_every_key_once_after_ten_kills(launcher, tiny_folder, pictures, undisturbed, tmp_path):
    choose = random.Random(0)
    out, said = tmp_path / "out", tmp_path / "said"
    kept = kills = 0
    while kills < 10:
        run = launcher.start(said, *command(tiny_folder, pictures, out))
        if kills % 3:  # else while it starts
            run.wait_for_rows(out, kept)
        time.sleep(choose.uniform(0, 2 * SECONDS))
        os.kill(run.pid, signal.SIGKILL)
        if run.wait() == 0:
            break  # a fast machine was at the end
        assert run.status() == -signal.SIGKILL, run.said()
        run.wait_for_children()
        assert finished_rows(out) >= kept
        kept = finished_rows(out)
        kills += 1
    assert kills > 5 and kept
    run = launcher.start(said, *command(tiny_folder, pictures, out))
    assert run.wait(60) == 0, run.said()
    check(out, undisturbed)


def test_several_models_killed_and_interrupted(
    launcher, tiny_folder, pictures, undisturbed, tmp_path
):
    out, said = tmp_path / "out", tmp_path / "said"
    kept = 0
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        run = launcher.start(said, *command(tiny_folder, pictures, out, "--workers", 2))
        run.wait_for_rows(out, kept)
        os.killpg(run.pid, number) if number == signal.SIGINT else os.kill(run.pid, number)
        assert run.wait() == status, run.said()
        run.wait_for_children()
        assert kept < finished_rows(out) < PICTURES
        kept = finished_rows(out)
    assert run.said() == f"dsm_ext: {out} keeps {kept} rows; the same command goes on after them\n"
    run = launcher.start(said, *command(tiny_folder, pictures, out, "--workers", 2))
    assert run.wait(60) == 0, run.said()
    check(out, undisturbed)
