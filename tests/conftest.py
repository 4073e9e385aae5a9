import os
from pathlib import Path

import pytest
import torch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: needs a CUDA device")
    # timm embeds patches by a convolution, which would round float32 to TF32.
    torch.backends.cudnn.allow_tf32 = False


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device is present")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.fixture(params=["fast", "reference"])
def cpu_path(request, monkeypatch):
    """Makes models of this test take one path on the CPU, then the other."""
    if request.param == "reference" and "cuda" in request.keywords:
        pytest.skip("paths differ on the CPU alone")
    monkeypatch.setenv("DSM_EXT_CPU", request.param)
    return request.param


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data():
    """The folder with deit_tiny_patch16_224.safetensors and imagenet_samples/."""
    folder = os.environ.get("DSM_EXT_DATA")
    if not folder:
        pytest.skip("DSM_EXT_DATA is not set: real weights and pictures are not at hand")
    folder = Path(folder)
    if not (folder / "deit_tiny_patch16_224.safetensors").is_file():
        pytest.skip(f"DSM_EXT_DATA has no deit_tiny_patch16_224.safetensors: {folder}")
    return folder
