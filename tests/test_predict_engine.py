"""``Engine`` by itself: where its units come from may fail, or may not answer."""

import threading
import time

import pytest
from decoding_units import Numbered

from dsm_ext.predict.engine import Engine, EngineSettings


@pytest.fixture
def engine(tiny_folder):
    engine = Engine(EngineSettings({"model": str(tiny_folder)}, batch=4, decoders=1))
    yield engine
    engine.close()


def keys(batches):
    return [int(key) for batch in batches for key in batch.column("key").to_pylist()]


def test_an_engine_runs_again(engine):
    for start in (0, 50):
        assert sorted(keys(engine.run([Numbered(start, start + 10)]))) == [
            *range(start, start + 10)
        ]
    assert keys(engine.run([])) == []


def test_errors_of_the_sources_arrive(engine):
    def units():
        yield Numbered(0, 10)
        raise OSError("the folder is gone")

    with pytest.raises(OSError, match="the folder is gone"):
        list(engine.run(units()))


def test_sources_that_do_not_answer_do_not_keep_a_run_from_ending(engine):
    answer = threading.Event()

    def units():
        yield Numbered(0, 10)
        yield Numbered(10, 20)
        answer.wait(30)

    running = engine.run(units())
    next(running)
    start = time.monotonic()
    running.close()
    engine.close()
    assert time.monotonic() - start < 15
    answer.set()


def test_a_run_that_nobody_goes_on_with_ends(engine):
    running = engine.run([Numbered(0, 1000)])
    next(running)
    running.close()
    names = [thread.name for thread in threading.enumerate()]
    assert "dsm_ext.predict.fill" not in names
