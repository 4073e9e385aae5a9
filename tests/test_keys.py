"""Keys of pictures, and sets of many keys."""

import os
import pickle
import random

import numpy as np
import pytest

from dsm_ext_reader import keys
from dsm_ext_reader.keys import KeySet, key_of


def test_the_key_of_a_path_is_its_text():
    for path in (
        "a/b.jpg",
        "./a",
        "a//b",
        "über/ß 雪.jpg",
        "a\nb.jpg",
        "s3://bucket/a%20b.png",
        "",
    ):
        assert key_of(path) == key_of(os.fsencode(path)) == path
    assert key_of(os.path.join("a", "b")) == "a/b"
    with pytest.raises(TypeError):
        key_of(3)


def test_two_paths_never_have_one_key():
    assert key_of(b"\xff.jpg") == r"\xff.jpg" and key_of(os.fsdecode(b"\xff.jpg")) == r"\xff.jpg"
    assert key_of(rb"\xff.jpg") == r"\\xff.jpg"
    rng = random.Random(1)
    pieces = [b"\\", b"x", b"f", b"\xff", b"\xc3", b"\xbc", b"\n", b"\\xff", b"/", b"\xed\xa0\x80"]
    paths = {b"".join(rng.choices(pieces, k=rng.randrange(6))) for _ in range(20_000)}
    found = [key_of(path) for path in paths]
    assert len(set(found)) == len(paths)
    for key in found:
        key.encode()  # pure UTF-8
    assert "ud800" not in key_of("\ud800") and key_of("\ud800").encode()


@pytest.mark.parametrize("recent", [1, 7, 1 << 15])
def test_a_set_of_keys_answers_as_a_set(monkeypatch, recent):
    monkeypatch.setattr(keys, "RECENT", recent)
    rng = random.Random(recent)
    ours, theirs = KeySet(), set()
    for step in range(300):
        given = [f"k{rng.randrange(3000)}\n" for _ in range(rng.randrange(30))]
        assert ours.known(given).tolist() == [key in theirs for key in given]
        if rng.random() < 0.7:
            expected = []
            for key in given:
                expected.append(key not in theirs)
                theirs.add(key)
            new = ours.add(given)
            assert new.dtype == bool and new.tolist() == expected
        if step % 60 == 0:
            ours = pickle.loads(pickle.dumps(ours))
        assert len(ours) == len(theirs)


def test_a_set_of_keys_takes_strange_text_and_nothing():
    known = KeySet(["", "\ud800", "a\0b"])
    assert known.known(["", "\ud800", "a", "a\0b", "a\0"]).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert known.add([]).shape == known.known([]).shape == (0,)
    assert len(pickle.loads(pickle.dumps(KeySet()))) == 0


def test_a_copy_of_a_set_goes_its_own_way(monkeypatch):
    monkeypatch.setattr(keys, "RECENT", 4)
    first = KeySet(map(str, range(10)))
    copied = first.copy()
    copied.add(["x"]), first.add([f"y{i}" for i in range(9)])
    assert copied.known(["x", "y1", "9"]).tolist() == [True, False, True]
    assert first.known(["x", "y1", "9"]).tolist() == [False, True, True]


def test_a_set_of_keys_in_read_only_memory_can_grow():
    state = KeySet(map(str, range(100))).__getstate__()
    state["digests"].flags.writeable = False  # as Ray's object store gives it
    known = KeySet()
    known.__setstate__(state)
    known.add([str(i) for i in range(50, 70_000)])
    assert len(known) == 70_000


def test_memory_of_a_set_of_keys():
    known = KeySet()
    for i in range(0, 300_000, 1000):
        known.add([f"folder/{j}.jpg" for j in range(i, i + 1000)])
    assert len(known) == 300_000
    arrays = sum(array.nbytes for array in known._arrays)
    assert arrays + 16 * len(known._recent) == 16 * 300_000
    assert len(known._recent) < keys.RECENT and len(known._arrays) < 6
    assert len(pickle.dumps(known)) < 16 * 300_000 + 1000
    assert all(np.all(array[1:] > array[:-1]) for array in known._arrays)
