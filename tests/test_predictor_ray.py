"""``Predictor`` as an actor of Ray Data, as the README shows it."""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT
from models import prepared
from pictures import colours
from PIL import Image

import dsm_ext

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install ray[data]"
)

BEFORE = """
import sys
import ray
folder, pictures, out = sys.argv[1:]
ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=100 << 20)
"""
AFTER = """
import torch

class Checked(dsm_ext.Predictor):
    def __call__(self, batch):
        threads = [torch.get_num_threads()] * len(batch["path"])
        return super().__call__(batch) | {"threads": threads}

rows = ray.data.read_images(pictures + "/good", mode="RGB", include_paths=True).map_batches(
    Checked, fn_constructor_args=(dsm_ext.load(folder),), batch_size=2, num_cpus=3,
    compute=ray.data.ActorPoolStrategy(size=1),
).take_all()
print([row["threads"] for row in rows], sorted(rows[0]))
"""


def readmes_example():
    """The README's example, with the folders and the CPUs of the test."""
    (code,) = re.findall(
        r"```python\n([^`]*ray\.data[^`]*)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    for theirs, ours in (
        ('"s3://bucket/photos"', "pictures"), ('"s3://bucket/vectors"', "out"),
        ('("folder",)', "(folder,)"), ("size=8", "size=1"),
    ):  # fmt: skip
        assert code.count(theirs) == 1
        code = code.replace(theirs, ours)
    return code


def test_ray_data(tmp_path):
    model = dsm_ext.from_timm(prepared(), "dsm:r=16,skip=1,local=2,window=7")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": [f"n{i}" for i in range(10)]}
    dsm_ext.export(model, tmp_path / "folder")
    good = tmp_path / "pictures" / "good"
    good.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(colours(60 + i, 70, seed=i)).save(good / f"{i}.png")
    (good.parent / "broken.jpg").write_bytes(b"no picture")
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [str(tmp_path / name) for name in ("folder", "pictures", "out")]
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + readmes_example() + AFTER, *arguments],
        env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"[3, 3, 3] {['embedding', 'error', 'path', 'threads']}"
    check(tmp_path)


def check(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    paths = [str(path) for path in sorted((tmp_path / "pictures").rglob("*.*"))]
    assert sorted(rows) == paths
    cells = np.empty(len(paths), object)
    for i, path in enumerate(paths):
        with open(path, "rb") as file:
            cells[i] = file.read()
    own = dsm_ext.Predictor(tmp_path / "folder", outputs="embedding,top5")({"bytes": cells})
    for i, path in enumerate(paths):
        assert rows[path]["error"] == own["error"][i]
        assert np.allclose(rows[path]["embedding"], own["embedding"][i], atol=1e-5, equal_nan=True)
        assert list(rows[path]["top5_class"]) == own["top5_class"][i].tolist()
        assert rows[path]["top5_name"] == own["top5_name"][i]
    assert rows[paths[0]]["error"] == "no known picture format"
