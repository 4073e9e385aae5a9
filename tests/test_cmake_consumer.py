"""A separate C++ project, built against the installed package: Python's logits, without Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from models import images_for
from safetensors.torch import save_file
from test_features import build
from tolerance import assert_close

import dsm_ext

SOURCE = Path(__file__).parent / "cmake_consumer"


def configure(folder, *arguments):
    command = ["cmake", "-G", "Ninja", "-S", str(SOURCE), "-B", str(folder), *arguments]
    command += [f"-DCMAKE_PREFIX_PATH={dsm_ext.cmake_prefix_path}"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def consumer(tmp_path_factory):
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("consumer")
    done = configure(folder, f"-DDSM_EXT_TORCH_ROOT={Path(torch.__file__).parent}")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return folder / "consumer"


def run(consumer, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))}
    return subprocess.run(
        [str(consumer), *map(str, arguments)], capture_output=True, text=True, env=clean
    )


@pytest.mark.parametrize("name", ["everything", "parallel blocks", "registers"])
def test_logits_are_those_of_python(consumer, name, tmp_path):
    model = build(name)
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, "dsm:r=8,skip=1,local=2")
    dsm_ext.export(fast, tmp_path)
    save_file({"images": images}, tmp_path / "images.safetensors")
    done = run(consumer, tmp_path, tmp_path / "images.safetensors")
    assert done.returncode == 0, done.stderr
    logits = torch.tensor([float(line) for line in done.stdout.split()]).view(2, -1)
    assert_close(logits, fast(images), scale=0.1 * fast(images).abs().max().item())  # 1e-6


def test_faults_are_named(consumer, tmp_path):
    done = run(consumer, tmp_path, "none")
    assert done.returncode == 1
    assert done.stderr == f"dsm_ext: {tmp_path}/config.json: no such file\n"


def test_another_torch_is_refused_in_one_sentence(consumer, tmp_path):
    other = tmp_path / "torch"
    version = other / "share" / "cmake" / "Torch" / "TorchConfigVersion.cmake"
    version.parent.mkdir(parents=True)
    version.write_text('set(PACKAGE_VERSION "9.9.0")\n')
    (other / "lib").mkdir()
    done = configure(tmp_path / "build", f"-DDSM_EXT_TORCH_ROOT={other}")
    assert done.returncode != 0
    assert "was built for torch" in done.stderr and "torch 9.9.0 was found" in " ".join(
        done.stderr.split()
    )
