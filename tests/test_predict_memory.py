"""The memory of ``dsm-ext predict`` does not grow with the number of pictures."""

from benchmarks.cpu.predict_memory import measure, summarized

COUNT = 8000


def test_memory_stays_as_it_is():
    found = measure(COUNT, "--batch", "16")
    assert found["tenths"][-1]["rows"] > 0.6 * COUNT
    assert found["growth"]["all"] < 1.05, found


def test_growth_is_seen():
    looks = [
        {"rows": rows, "parent": 100 + rows, "children": 50, "processes": 2}
        for rows in range(0, 1000, 10)
    ]
    looks.append({"rows": 1000, "parent": 5000, "children": 0, "processes": 1})
    found = summarized(looks, 1000)
    assert len(found["tenths"]) == 10
    assert found["growth"]["children"] == 1
    assert found["growth"]["parent"] == (100 + 945) / (100 + 145)
