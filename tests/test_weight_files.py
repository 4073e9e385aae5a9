"""Weight files of each format are read whole; for other files an error says what the file is."""

import argparse
import gzip
import io
import os
import pickle
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from models import create
from safetensors.torch import load_file, save_file

import dsm_ext
from dsm_ext.weights import load_weights

NAME = "deit_tiny_patch16_224"
TENSORS = {
    "a": torch.randn(3, 5), "b.scalar": torch.tensor(2.5), "b.empty": torch.zeros(0, 4),
    "c": torch.arange(7, dtype=torch.int64), "d": torch.tensor([True, False]),
    "e": torch.randn(3).bfloat16(), "f": torch.randn(2, 2).half(), "g": torch.randn(5).double(),
    "h": torch.randn(4).to(torch.float8_e4m3fn), "i": torch.arange(3, dtype=torch.uint8),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_tensors_come_back_as_they_were(kind, tmp_path):
    path = tmp_path / "file"
    tensors = dict(TENSORS)
    if kind == "legacy":
        del tensors["h"]  # torch cannot read float8 from this format
    if kind == "safetensors":
        save_file(TENSORS, path, metadata={"format": "pt"})
        assert {n: t.dtype for n, t in load_file(path).items()} == {
            n: t.dtype for n, t in load_weights(path).items()
        }
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    read = load_weights(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name].float(), tensor.float())


def test_views_and_shared_tensors(tmp_path):
    whole = torch.randn(4, 6)
    torch.save({"a": whole[1:3].T, "b": whole, "c": whole}, tmp_path / "a.pt")
    read = load_weights(tmp_path / "a.pt")
    assert torch.equal(read["a"], whole[1:3].T)
    assert torch.equal(read["c"], whole)


CHANGES = """
import os, pathlib, sys, torch, dsm_ext
images = torch.randn(1, 3, 224, 224)
name, path = sys.argv[1], pathlib.Path(sys.argv[2])
whole = path.read_bytes()
expected = dsm_ext.from_timm(name, "dense", weights=path)(images)

def overwrite():
    with path.open("r+b") as file:
        file.write(bytes([255]) * len(whole))

for change in (overwrite, lambda: os.truncate(path, 0), path.unlink):
    path.write_bytes(whole)
    model = dsm_ext.from_timm(name, "dense", weights=path)
    change()
    assert torch.equal(model(images), expected)
"""


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_file_that_changes_afterwards_is_not_seen(kind, tmp_path):
    """Runs in a process of its own: reading a mapped file that was cut short would kill it."""
    path = tmp_path / f"model.{kind}"
    state = create(NAME).state_dict()
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, NAME, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


MEMORY = """
import resource, sys
from dsm_ext.weights import load_weights
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_weights(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_there_are_never_two_copies_in_memory(kind, tmp_path):
    path = tmp_path / f"model.{kind}"
    state = {f"w{i}": torch.ones(1 << 21) for i in range(24)}  # 8 MiB each
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1.25 * path.stat().st_size


def scripted():
    with warnings.catch_warnings(action="ignore"):  # torch warns that scripting is deprecated
        return torch.jit.script(torch.nn.Linear(2, 2))


class Settings:
    pass


def numpy_bytes(save, array):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


def written(content):
    return lambda path: path.write_bytes(content)


NOT_WEIGHTS = {
    r"it is empty \(0 bytes\)": written(b""),
    "a pointer of Git LFS.*git lfs pull": written(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 22883\n"
    ),
    "an HTML or XML page": written(b"\n<!DOCTYPE html><html><title>404</title></html>"),
    "an HTML or XML page, as servers": written(b"<?xml version='1.0'?><Error/>"),
    "it is JSON text": written(b'{"weight_map": {}}'),
    "compressed by gzip: unpack": written(gzip.compress(b"x" * 1000)),
    "a single NumPy array": lambda path: path.write_bytes(numpy_bytes(np.save, np.ones(3))),
    "an archive of NumPy arrays": lambda path: path.write_bytes(numpy_bytes(np.savez, np.ones(3))),
    r"a zip archive of a\.txt": zipped,
    "a TorchScript archive; save its weights": lambda path: torch.jit.save(scripted(), path),
    r"other objects than tensors.*torch\.nn\.modules\.linear\.Linear.*save.*state_dict": (
        lambda path: torch.save(torch.nn.Linear(2, 2), path)
    ),
    r"other objects than tensors.*Settings": lambda path: torch.save(
        {"model": {"a": torch.ones(2)}, "settings": Settings()}, path
    ),
    r"other objects than tensors.*Settings.*weights_only=False": lambda path: torch.save(
        {"s": Settings()}, path, _use_new_zipfile_serialization=False
    ),
    "it begins with b'abcd'": written(b"abcd"),
    "(weights alone|safetensors file): Invalid magic number": (
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("found", NOT_WEIGHTS)
def test_what_is_no_weight_file_is_named(found, suffix, tmp_path):
    if found.startswith("it begins") and suffix == ".safetensors":
        pytest.skip("safetensors' own error then")
    path = tmp_path / f"bad{suffix}"
    with warnings.catch_warnings(action="ignore"):
        NOT_WEIGHTS[found](path)
    with pytest.raises(ValueError, match=rf"bad\{suffix} is not a ") as error:
        load_weights(path)
    assert error.match(found)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_files_cut_short(kind, share, tmp_path):
    path = tmp_path / "cut"
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(int(len(whole) * share), 9)])
    with pytest.raises(ValueError, match="cut is not a file of weights alone: "):
        load_weights(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such weight file: .*nowhere"):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"is a folder\. dsm_ext\.load reads"):
        load_weights(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="pipe"):
            load_weights(tmp_path / "pipe")
    for path in (3, None, {"a": torch.ones(2)}):
        with pytest.raises(TypeError, match="expected the path of a weight file, got a"):
            load_weights(path)
    with pytest.raises(TypeError, match="a state dict in memory goes into timm's model"):
        dsm_ext.from_timm(NAME, weights={"a": torch.ones(2)})


def test_namespaces_stay_forbidden_elsewhere(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(b=1)}, path)
    assert load_weights(path).keys() == {"a"}
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_weights(path)
        assert argparse.Namespace in torch.serialization.get_safe_globals()
