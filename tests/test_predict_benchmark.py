"""The benchmark of predict takes the usual photographs, and its table shows every peer."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.common import RESULTS
from benchmarks.cpu.predict import link_pictures, measured, peers
from benchmarks.cpu.predict_tables import predict


def test_pictures_of_the_usual_size_are_linked(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    for name, size in (("a", (50, 40)), ("b", (30, 40)), ("large", (501, 10))):
        Image.new("RGB", size).save(source / f"{name}.JPEG")
    said = link_pictures(source, folder, 5)
    files = sorted((folder / "class").iterdir())
    assert [Path(file).resolve().stem for file in files] == ["a", "b", "a", "b", "a"]
    assert said["count"] == 5 and said["different"] == 2
    with pytest.raises(ValueError, match="no JPEG of at most 500 pixels"):
        link_pictures(tmp_path / "elsewhere", tmp_path / "none", 1)


def test_a_run_of_the_command_is_measured(tmp_path, vit_tiny_file, monkeypatch):
    monkeypatch.setattr("benchmarks.cpu.predict.NAME", "vit_tiny_patch16_224")
    monkeypatch.setattr("benchmarks.cpu.predict.BATCH", 2)
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    Image.new("RGB", (50, 40)).save(source / "a.jpg")
    link_pictures(source, folder, 6)
    assert measured(["predict", str(folder), str(vit_tiny_file), "dsm:r=8", "float32"]) > 0


def test_the_table_has_a_row_for_each_peer():
    names = list(peers(Path("folder"), Path("weights"), 2, 1.0))
    result = {
        "rows": [{"name": name, "rates": [2.0 + i, 4.0 + i]} for i, name in enumerate(names)],
        "batch": 32,
        "pictures": {
            "count": 9, "different": 3, "median_size": (500, 375), "median_bytes": 100_000,
        },
        "machine": {"processor": "P", "threads": 2, "capability": "AVX512"},
        "versions": {"torch": "2", "timm": "1"},
    }  # fmt: skip
    answers = json.loads((RESULTS / "precision.json").read_text())
    table = predict(result, answers).splitlines()
    assert len(table) == 2 + len(names) + 2
    assert "`predict`: dense, float32" in table[4] and "100.0 %" in table[4]
    assert "a model for each core: guided:1.7, int8" in table[-4]
