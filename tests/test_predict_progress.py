"""What ``dsm-ext predict`` tells while it runs: a bar on a terminal, and lines elsewhere."""

import fcntl
import os
import re
import struct
import termios
import threading
import time

import pytest
from commands import run
from predict_runs import many_pictures

from dsm_ext.predict import progress
from dsm_ext.predict.progress import Progress

PICTURES = 2500


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = many_pictures(tmp_path_factory.mktemp("many") / "pictures", PICTURES)
    for i in range(0, 5):
        (folder / f"00000 {i}.png").write_bytes(b"no picture")
    return folder


def test_lines_where_there_is_no_terminal(tiny_folder, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    said = run(capsys, "predict", tiny_folder, "--images", pictures, "-o", tmp_path / "out").err
    form = re.compile(
        r"predict: (\d+)( of 2505)? pictures, (\d+\.\d) images/s, (\d) errors(, \d\d:\d\d left)?"
    )
    lines = [form.fullmatch(line) for line in said.splitlines()]
    assert len(lines) > 1 and None not in lines
    assert lines[-1][2] and lines[-1][5]
    done = [int(line[1]) for line in lines]
    assert done == sorted(done) and 0 < done[0] <= done[-1] <= PICTURES + 5
    assert lines[-1][4] == "5"


def test_lines_count_what_earlier_runs_did(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    counted = threading.Event()

    def count():
        counted.set()
        return 1000

    with Progress(400, count) as shown:
        counted.wait()
        while shown.total is None:
            time.sleep(0.001)
        shown.report(100, 0)
        shown.report(200, 7)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("predict: 500 of 1000 pictures, ") and " 0 errors, " in first
    assert second.startswith("predict: 600 of 1000 pictures, ") and " 7 errors, " in second


@pytest.mark.parametrize("error", [None, OSError])
def test_an_unknown_count_has_no_time_left(error, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)

    def count():
        if error:
            raise error

    with Progress(0, count) as shown:
        shown.report(3, 1)
    said = capsys.readouterr().err
    assert re.fullmatch(r"predict: 3 pictures, \d+\.\d images/s, 1 errors\n", said)


def test_a_bar_on_a_terminal(launcher, tiny_folder, pictures, tmp_path):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    shown = []

    def read():
        try:
            while text := os.read(ours, 4096):
                shown.append(text.decode())
        except OSError:  # nobody has the terminal open any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    command = ["predict", tiny_folder, "--images", pictures, "-o", tmp_path / "out", "--batch", 4]
    run = launcher.start(os.ttyname(theirs), *command)
    assert run.wait(60) == 0, shown
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = "".join(shown)
    bars = re.findall(
        r"predict: +\d+%\|.*?\| (\d+)/2505 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ images/s, errors=5\]",
        text,
    )
    assert bars
