"""Folders that a run must not write to."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from predictions import SETTINGS, opened, rows


def test_other_settings_are_refused_by_name(tmp_path):
    out = tmp_path / "out"
    opened(out).close(True)
    other = {"schedule": "dense", "preprocessing": {"mean": [0, 0.5, 0.5]}, "precision": "int8"}
    with pytest.raises(ValueError) as error:
        opened(out, other)
    assert str(error.value) == (
        f"dsm_ext: {out} was written with model deit, now not given; schedule dsm:r=16, now dense; "
        "preprocessing.mean 0.5,0.5,0.5, now 0,0.5,0.5; precision not given, now int8: take "
        "another -o"
    )
    opened(out, SETTINGS | {"crop": None}).close(True)


def test_folders_of_other_content_are_refused(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"has other files, such as holiday\.jpg, and no _manif"):
        opened(tmp_path)
    assert os.listdir(tmp_path) == ["holiday.jpg"]
    with pytest.raises(FileExistsError, match=r"holiday\.jpg cannot be created: File exists"):
        opened(tmp_path / "holiday.jpg")
    (tmp_path / "holiday.jpg").unlink()
    (tmp_path / ".DS_Store").touch()
    opened(tmp_path).close(True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 3}', '{"settings": {}, "x": 1}'])
def test_other_manifests_are_refused(tmp_path, text):
    (tmp_path / "_manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"_manifest\.json is no manifest of dsm-ext predict"):
        opened(tmp_path)
    assert (tmp_path / "_manifest.json").read_text() == text


def test_a_manifest_of_a_later_version_is_refused(tmp_path):
    opened(tmp_path).close(True)
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(ValueError, match="to have format 1, got 2"):
        opened(tmp_path)


def test_one_run_at_a_time(tmp_path):
    with (
        opened(tmp_path),
        pytest.raises(BlockingIOError, match=rf"\(process {os.getpid()} on .*-o"),
    ):
        opened(tmp_path)
    opened(tmp_path).close(True)


@pytest.mark.parametrize("damage", ["empty", "no footer", "a flipped bit"])
def test_a_damaged_shard_is_refused_by_name(tmp_path, damage):
    with opened(tmp_path) as output:
        output.write(rows(*map(str, range(2000))))
    (shard,) = tmp_path.glob("*.parquet")
    data = bytearray(shard.read_bytes())
    data[100] ^= 16
    shard.write_bytes({"empty": b"", "no footer": data[:5000]}.get(damage, data))
    with pytest.raises((ValueError, OSError), match=rf"{shard.name} cannot be read: .*delete it"):
        opened(tmp_path)
    shard.unlink()
    with opened(tmp_path) as output:
        assert output.rows == 0


def test_shards_of_other_columns_are_refused(tmp_path):
    opened(tmp_path).close(True)
    pq.write_table(
        pa.Table.from_batches([rows("a")]).drop(["embedding"]), tmp_path / "part-1.parquet"
    )
    with pytest.raises(ValueError, match=r"part-1\.parquet to have the columns key .*embedding"):
        opened(tmp_path)
    with opened(tmp_path / "other") as output, pytest.raises(ValueError, match="of the schema"):
        output.write(rows("a").select(["key", "error"]))
