"""Processes read and decode pictures; no picture can stop the others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from decoding_units import Numbered, check

from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.pool import DecodingPool
from dsm_ext_reader.resizing import Resizing

RESIZING = Resizing(3, 32, 40, 1.0, "squash", "bicubic", (0, 0, 0))


def decode(units, processes=2, resizing=RESIZING, **options):
    pool = DecodingPool(resizing, processes, **options)
    try:
        return [
            (key, error, None if pixels is None else pixels.copy())
            for key, error, pixels in pool.read(units)
        ]
    finally:
        pool.close()


@pytest.mark.parametrize("processes", [1, 3])
def test_every_picture_comes_once_with_its_pixels(processes):
    units = [Numbered(first, first + 50) for first in range(0, 1000, 50)]
    rows = decode(iter(units), processes)
    check(rows, range(1000))
    assert rows[0][2].shape == (32, 40, 3)


def test_more_pictures_than_slots():
    large = Resizing(1, 2000, 2000, 1.0, "squash", "nearest", (0,))  # 4 slots
    check(decode([Numbered(0, 13)], 1, large), range(13))


def test_a_pool_reads_again():
    pool = DecodingPool(RESIZING, 2)
    try:
        for start in (0, 100):
            rows = [(k, e, p.copy()) for k, e, p in pool.read([Numbered(start, start + 30)])]
            check(rows, range(start, start + 30))
        assert list(pool.read([])) == []
    finally:
        pool.close()


def test_pictures_that_are_done_are_left_out():
    done = KeySet()
    done.add([str(n) for n in range(300) if n % 3])
    units = [Numbered(0, 150, ((1, "die"), (149, "hang"))), Numbered(150, 300), Numbered(1, 3)]
    check(decode(units, done=done), range(0, 300, 3))


def test_errors_are_rows_and_the_others_go_on():
    acts = ((3, "damaged"), (4, "missing"), (20, "die"), (21, "die"), (39, "exit"), (0, "exit"))
    rows = decode([Numbered(0, 40, acts), Numbered(40, 80)], 2)
    errors = {
        3: "no known picture format", 4: "no such file", 20: "was ended by SIGKILL",
        21: "was ended by SIGKILL", 39: "ended with status 3", 0: "ended with status 3",
    }  # fmt: skip
    check(rows, range(80), errors.items())


def test_a_picture_that_hangs_is_an_error():
    rows = decode([Numbered(0, 10, ((4, "hang"),)), Numbered(10, 20)], 1, timeout=1)
    check(rows, range(20), [(4, "took longer than 1 s")])


def test_pictures_that_end_about_when_their_time_ends_are_not_lost():
    acts = tuple((n, 0.45 + 0.05 * (n % 5)) for n in range(0, 24, 2))
    rows = decode([Numbered(0, 12, acts), Numbered(12, 24, acts)], 2, timeout=0.4)
    assert sorted(int(key) for key, _, _ in rows) == list(range(24))
    for key, error, _ in rows:
        assert error is None or (int(key) % 2 == 0 and "took longer than 0.4 s" in error)


def test_a_unit_that_hangs_before_a_picture_is_given_up():
    rows = decode([Numbered(0, 10, ((4, "hang in the list"),)), Numbered(10, 20)], 1, timeout=0.5)
    check([row for row in rows if row[0] != "numbered"], [*range(4), *range(10, 20)])
    ((_, error, _),) = [row for row in rows if row[0] == "numbered"]
    assert error == "what follows picture 4: reading it took longer than 0.5 s"


def test_the_limit_of_pixels():
    rows = decode([Numbered(0, 2)], 1, max_pixels=80)
    assert [error for _, error, _ in rows] == [
        "a picture of 9 x 9 has 81 pixels, more than the limit of 80"
    ] * 2


def test_processes_that_cannot_start_end_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr("dsm_ext_reader.child._START", "import sys; sys.exit(7)")
    with pytest.raises(RuntimeError, match="ended with status 7"):
        decode([Numbered(0, 2)], 1)


def test_processes_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]}\n"
        "from decoding_units import Numbered\n"
        "from test_decoding_pool import RESIZING, DecodingPool\n"
        "pool = DecodingPool(RESIZING, 2)\n"
        "rows = pool.read([Numbered(0, 5, ((4, 'hang'),)), Numbered(5, 10, ((9, 'hang'),))])\n"
        "for _ in range(8): next(rows)\n"
        "print(*(worker.child.pid for worker in pool._workers), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    made = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in made.stdout.split()]
    assert len(pids) == 2
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {[p for p in pids if os.path.exists(f'/proc/{p}')]}")


def test_time_in_which_all_processes_were_stopped_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dsm_ext_reader.pool.time.monotonic", lambda: now[0])
    pool = DecodingPool(RESIZING, 1, timeout=60)
    try:
        (worker,) = pool._workers
        worker.shared.header[:] = 1, 0  # it reads its first picture
        for moment in (0, 30 * 3600):
            now[0] = moment
            assert not worker.reads_longer_than(60)
        while now[0] < 30 * 3600 + 58:
            now[0] += 0.5
            assert not worker.reads_longer_than(60)
        now[0] += 0.5
        now[0] += 0.5
        assert not worker.reads_longer_than(60)
        now[0] += 0.5
        assert worker.reads_longer_than(60)
        worker.shared.header[0] += 1  # the next picture
        assert not worker.reads_longer_than(60)
    finally:
        pool.close()
