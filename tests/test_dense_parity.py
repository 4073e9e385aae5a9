"""A model that merges nothing gives timm's logits. Start reading the tests here."""

import pytest
import torch
from models import create, images_for, small
from tolerance import assert_close, assert_error_at_most_twice

import dsm_ext

pytestmark = pytest.mark.usefixtures("cpu_path")

MODELS = {
    "tiny": ("vit_tiny_patch16_224", {}),
    "small": ("vit_small_patch16_224", {}),
    "base": ("vit_base_patch16_224", {"depth": 3}),
    "large": ("vit_large_patch16_224", {"depth": 2}),
    "huge, patch 14": ("vit_huge_patch14_224", {"depth": 1, "num_classes": 100}),
    "patch 32": ("vit_small_patch32_224", {"depth": 4}),
    "patch 8": ("vit_base_patch8_224", {"depth": 1}),
    "DeiT": ("deit_small_patch16_224", {"depth": 4}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "384 pixels": ("deit_base_patch16_384", {"depth": 1}),
    "rectangle": ("vit_tiny_patch16_224", {"img_size": (160, 256)}),
    "pixels left over": ("vit_tiny_patch16_224", {"img_size": (100, 90), "depth": 2}),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_timm(name, device):
    architecture, arguments = MODELS[name]
    model = create(architecture, **arguments).to(device)
    images = images_for(model, 2).to(device)
    fast = dsm_ext.from_timm(model, "dense")
    with torch.inference_mode():
        assert_close(fast(images), model(images))
        assert_close(fast.forward_features(images), model.forward_features(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_exact_as_eager(dtype, device):
    model = create("vit_tiny_patch16_224").to(device)
    images = images_for(model, 8).to(device)
    with torch.inference_mode():
        exact = model.double()(images.double())
        eager = model.to(dtype)(images.to(dtype))
        fast = dsm_ext.from_timm(model, "dense")
        assert fast(images.to(dtype)).dtype == dtype
        assert_error_at_most_twice(fast(images.to(dtype)), eager, exact)


@pytest.mark.parametrize("channels", [1, 4])
def test_input_channels(channels, device):
    model = small(in_chans=channels).to(device)
    images = images_for(model, 3).to(device)
    with torch.inference_mode():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))


def test_r_0_is_dense():
    model = small()
    images = images_for(model, 3)
    dense = dsm_ext.from_timm(model, "dense")(images)
    for schedule in ("dsm:r=0", "tome:r=0", "dfe:r=0,skip=1"):
        assert torch.equal(dsm_ext.from_timm(model, schedule)(images), dense)
