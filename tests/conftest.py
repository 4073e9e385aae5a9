import os
from pathlib import Path

import pytest
import torch
from models import create, images_for, prepared
from predict_runs import Launcher
from safetensors.torch import save_file
from timm.layers import weight_init

import dsm_ext
from dsm_ext.cli import model_arguments

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: needs a CUDA device")
    # timm embeds patches by a convolution, which would round float32 to TF32.
    torch.backends.cudnn.allow_tf32 = False
    # timm initialises weights by a truncated normal distribution, which takes far longer.
    weight_init._trunc_normal_ = lambda tensor, mean, std, low, high: tensor.normal_(mean, std)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """How many processes ``-n auto`` starts. Each of them takes more than a GB of memory.

    On a real GPU all tests run in one process, because some of them fill the GPU's memory.
    """
    if torch.cuda.is_available() and "DSM_EXT_STAND_IN" not in os.environ:
        return 0
    return min(8, len(os.sched_getaffinity(0)))


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


@pytest.fixture(params=["fast", "aten"])
def cpu_path(request, monkeypatch):
    """Runs a test twice on the CPU: with models on the fast path, then on the ATen path."""
    if request.param == "aten" and "cuda" in request.keywords:
        pytest.skip("a GPU has no two paths")
    monkeypatch.setenv("DSM_EXT_CPU", request.param)
    return request.param


@pytest.fixture(scope="session")
def cpu_parts():
    """The products and the attention of the CPU's fast path by themselves."""
    from tools import cpu_parts

    try:
        return cpu_parts.load()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def deit_tiny():
    """timm's deit_tiny_patch16_224 with random weights, which no test may change."""
    torch.manual_seed(0)
    return create("deit_tiny_patch16_224")


@pytest.fixture(scope="session")
def deit_tiny_file(deit_tiny, tmp_path_factory):
    """The weights of ``deit_tiny`` as a safetensors file, which no test may change."""
    path = tmp_path_factory.mktemp("deit_tiny") / "model.safetensors"
    save_file(deit_tiny.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def vit_tiny_file(tmp_path_factory):
    """Random weights of timm's vit_tiny_patch16_224, which no test may change."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vit_tiny") / "model.safetensors"
    save_file(create("vit_tiny_patch16_224").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def deit_tiny_logits(deit_tiny):
    """An image, and the logits that ``deit_tiny`` gives for it."""
    torch.manual_seed(2)
    images = images_for(deit_tiny, 1)
    with torch.no_grad():
        return images, deit_tiny(images)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """An exported model for pictures of 32 x 32 with ten classes, which no test may change."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    model = prepared(img_size=32, patch_size=8, embed_dim=64, depth=2)
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=3"), folder, model)
    return folder


@pytest.fixture
def small_named_model(monkeypatch):
    """A small model that commands take in place of the one that their arguments name."""
    made = prepared()
    monkeypatch.setattr(model_arguments, "trained_model", lambda args: made)
    return made


@pytest.fixture(scope="session")
def launcher():
    """Starts commands quickly, in processes that tests may kill."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def saved(tmp_path):
    """Saves a model of the transformers library, and returns the folder."""

    def save(model, **kwargs):
        model.save_pretrained(tmp_path, **kwargs)
        return tmp_path

    return save


@pytest.fixture(scope="session")
def data():
    """The folder with deit_tiny_patch16_224.safetensors and imagenet_samples/."""
    folder = os.environ.get("DSM_EXT_DATA")
    if not folder:
        pytest.skip("DSM_EXT_DATA names no folder with real weights and pictures")
    folder = Path(folder)
    if not (folder / "deit_tiny_patch16_224.safetensors").is_file():
        pytest.skip(f"DSM_EXT_DATA has no deit_tiny_patch16_224.safetensors: {folder}")
    return folder
