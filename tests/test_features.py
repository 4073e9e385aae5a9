"""With each feature of timm's models, dense logits equal timm's, merging ones the reference's."""

import pytest
import timm
import torch
from features import FEATURES, build
from models import images_for, randomize, small
from parity import MOST_IMAGES, compare
from tolerance import assert_close, assert_error_at_most_twice

import dsm_ext
from dsm_ext import reference

pytestmark = pytest.mark.usefixtures("cpu_path")


@pytest.mark.parametrize("name", FEATURES)
def test_dense_equals_timm(name, device):
    model = build(name).to(device)
    images = images_for(model, 3).to(device)
    fast = dsm_ext.from_timm(model, "dense")
    with torch.inference_mode():
        assert_close(fast(images), model(images))
        assert_close(fast.forward_features(images), model.forward_features(images))
    assert fast.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("name", FEATURES)
def test_merging_equals_reference(name, device):
    model = build(name).to(device)
    fast = compare(model, "dsm:r=16,skip=1,local=2", images_for(model, 6).to(device))
    assert fast.plan.multiply_adds < fast.plan.multiply_adds_dense


@pytest.mark.parametrize("name", ["average pooling", "SigLIP", "everything"])
def test_without_proportional_attention(name, device):
    model = build(name).to(device)
    compare(model, "tome:r=20,proportional=false", images_for(model, 4).to(device))


@pytest.mark.parametrize("name", ["everything", "DINOv2 giant", "SigLIP", "parallel blocks"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_exact_as_eager(name, dtype, device):
    model = build(name, num_classes=10).to(device)
    images = images_for(model, 16).to(device)
    with torch.inference_mode():
        exact = model.double()(images.double())
        eager = model.to(dtype)(images.to(dtype))
        fast = dsm_ext.from_timm(model, "dense")
        assert_error_at_most_twice(fast(images.to(dtype)), eager, exact)


def test_averages_are_weighted_by_size(device):
    """If all patches are equal, the weighted mean does not depend on what merges."""
    model = build("average pooling", pos_embed="none").to(device)
    patch = torch.randn(2, 3, 1, 4, 1, 4, device=device).expand(2, 3, 14, 4, 14, 4)
    images = patch.reshape(2, 3, 56, 56)
    dense = dsm_ext.from_timm(model, "dense")(images)
    assert_close(dsm_ext.from_timm(model, "tome:r=60")(images), dense)


def test_a_trunk_takes_any_head(device):
    """Heads of the user's take the pooled features of a model without a head."""
    model = build("no head").to(device)
    images = images_for(model, 4).to(device)
    trunk = dsm_ext.from_timm(model, "dsm:r=16")
    pooled = trunk(images)
    tokens = trunk.forward_features(images)
    assert_close(pooled, tokens[:, 0])
    for classes in (3, 7):
        head = torch.nn.Linear(32, classes).to(device)
        assert head(pooled).shape == (4, classes)
        model.head = head
        with torch.no_grad():
            assert_close(dsm_ext.from_timm(model, trunk.schedule)(images), head(pooled))


SIZES = [(56, 56), (40, 72), (28, 28), (112, 80)]


@pytest.mark.parametrize("name", ["LayerScale", "registers without positions", "SigLIP"])
@pytest.mark.parametrize("schedule", ["dense", "dsm:r=8,skip=1,local=2,window=5"])
def test_dynamic_img_size(name, schedule, device):
    model = build(name, dynamic_img_size=True).to(device)
    fast = dsm_ext.from_timm(model, schedule)
    for height, width in SIZES * 2:
        images = torch.randn(min(3, MOST_IMAGES), 3, height, width, device=device)
        assert_close(fast(images), reference.forward(model, images, fast.schedule))
        if schedule == "dense":
            with torch.no_grad():
                assert_close(fast(images), model(images))
    features = fast.forward_features(torch.randn(1, 3, 40, 72, device=device), dense=True)
    assert features.shape[1] == fast.config.prefix + 180


def test_dynamic_img_size_can_be_asked_for(device):
    model = small().to(device)
    with pytest.raises(ValueError, match="images of 56 x 56 pixels, got 40 x 72"):
        dsm_ext.from_timm(model)(torch.randn(1, 3, 40, 72, device=device))
    fast = dsm_ext.from_timm(model, "dense", dynamic_img_size=True)
    expected = small(dynamic_img_size=True).to(device)
    expected.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 40, 72, device=device)
    with torch.no_grad():
        assert_close(fast(images), expected(images))
    for size in ((42, 72), (40, 0)):
        with pytest.raises(ValueError, match="multiples of 4 and 4 pixels"):
            fast(torch.randn(2, 3, *size, device=device))
    fast.schedule = "tome:r=49"  # more than half of the patches of a smaller picture
    too_small = r"expected r of block 0 to be in \[0, 24\], .* a picture of 28 x 28 pixels, got 49"
    with pytest.raises(ValueError, match=too_small):
        fast(torch.randn(2, 3, 28, 28, device=device))


@pytest.mark.parametrize("size", [(64, 96), 80])
def test_another_img_size_by_name(size, tmp_path):
    from safetensors.torch import save_file

    name = "vit_tiny_patch16_224"
    model = randomize(timm.create_model(name))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    fast = dsm_ext.from_timm(name, "dense", weights=tmp_path / "model.safetensors", img_size=size)
    model.set_input_size(img_size=size if isinstance(size, tuple) else (size, size))
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(fast(images), model(images))
    with pytest.raises(TypeError, match="img_size go with a model's name"):
        dsm_ext.from_timm(model, img_size=64)


def test_models_of_any_feature_survive_a_round_trip(tmp_path):
    import copy

    model = dsm_ext.from_timm(build("everything"), "dsm:r=8")
    images = torch.randn(2, 4, 36, 60)
    expected = model(images)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert loaded.config == model.config
    for other in (loaded, copy.deepcopy(model)):
        assert torch.equal(other(images), expected)
    assert "reg_tokens=3" in repr(model.config)


def test_freezing_keeps_every_feature(cpu_path):
    if cpu_path == "aten":
        pytest.skip("only the fast path can be frozen")
    model = build("everything", dynamic_img_size=True)
    fast = dsm_ext.from_timm(model, "dsm:r=8")
    images = torch.randn(2, 4, 36, 60)
    other = torch.randn(2, 4, 48, 48)
    expected = fast(images), fast(other)
    fast = dsm_ext.from_timm(model, "dsm:r=8").freeze()
    assert torch.equal(fast(images), expected[0])
    assert torch.equal(fast(other), expected[1])
