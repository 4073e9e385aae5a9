"""``from_timm`` with a name takes the arguments of timm's create_model and a weight file."""

import re

import numpy as np
import pytest
import timm
import torch
from models import create, images_for
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from tolerance import assert_close

import dsm_ext
from dsm_ext.timm_models.from_timm import create_timm

NAME = "deit_tiny_patch16_224"


def file_of(model, tmp_path, **changes):
    state = {n: t.contiguous() for n, t in ({**model.state_dict(), **changes}).items()}
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@torch.no_grad()
def check_like_timm(name, path, **kwargs):
    """Our model gives the logits of the model that timm's create_model makes from the file."""
    theirs = timm.create_model(name, checkpoint_path=str(path), **kwargs).eval()
    images = images_for(theirs, 1)
    assert_close(dsm_ext.from_timm(name, "dense", weights=path, **kwargs)(images), theirs(images))
    assert_close(create_timm(name, path, **kwargs)(images), theirs(images))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"img_size": 384},
        {"img_size": (112, 160)},
        {"num_classes": 10},
        {"num_classes": 0},
        {"in_chans": 1},
        {"global_pool": "avg"},
        {"img_size": 96, "num_classes": 5, "in_chans": 4, "global_pool": "avg"},
    ],
    ids=str,
)
def test_weights_saved_with_the_same_arguments(kwargs, tmp_path):
    check_like_timm(NAME, file_of(create(NAME, **kwargs), tmp_path), **kwargs)


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("deit_tiny_distilled_patch16_224", {"num_classes": 7, "img_size": 96}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56}),
        ("flexivit_small", {"img_size": 96, "num_classes": 3}),
    ],
)
def test_other_models(name, kwargs, tmp_path):
    check_like_timm(name, file_of(create(name, **kwargs), tmp_path), **kwargs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_dtypes_become_timms(dtype, tmp_path):
    path = file_of(create(NAME).to(dtype), tmp_path)
    check_like_timm(NAME, path)
    assert dsm_ext.from_timm(NAME, weights=path).head.weight.dtype == torch.float32
    half = dsm_ext.from_timm(NAME, weights=path, dtype=torch.bfloat16)
    assert half.head.weight.dtype == torch.bfloat16


def test_weights_of_several_dtypes(tmp_path):
    model = create(NAME)
    changes = {n: t.half() for n, t in model.state_dict().items() if "norm" not in n}
    check_like_timm(NAME, file_of(model, tmp_path, **changes))


@torch.no_grad()
def test_positions_are_resampled_where_img_size_is_given(tmp_path):
    model = create(NAME)
    path = file_of(model, tmp_path)
    for name, kwargs in (
        (NAME, {}),
        ("flexivit_small", {"interpolation": "bilinear", "antialias": False}),
    ):
        model = create(name)
        path = file_of(model, tmp_path)
        theirs = timm.create_model(name, img_size=(96, 128)).eval()
        theirs.load_state_dict(checkpoint_filter_fn(model.state_dict(), theirs, **kwargs))
        images = torch.randn(1, 3, 96, 128)
        own = dsm_ext.from_timm(name, "dense", weights=path, img_size=(96, 128))
        assert_close(own(images), theirs(images))


def test_positions_of_another_size_are_refused_otherwise(tmp_path):
    path = file_of(create(NAME, img_size=384), tmp_path)
    with pytest.raises(
        ValueError, match=r"has 577 positions.*give img_size=384, the size"
    ) as error:
        dsm_ext.from_timm(NAME, weights=path)
    assert error.match("or img_size=224 to have their positions resampled")
    assert dsm_ext.from_timm(NAME, weights=path, img_size=224).config.img_size == (224, 224)


MISFITS = {
    "give num_classes=10": (lambda: create(NAME, num_classes=10), {}),
    "give num_classes=1000": (lambda: create(NAME), {"num_classes": 10}),
    "have 1000 classes: give num_classes=1000": (lambda: create(NAME), {"num_classes": 0}),
    "no classifier: give num_classes=0": (lambda: create(NAME, num_classes=0), {}),
    "4 channels: give in_chans=4": (lambda: create(NAME, in_chans=4), {}),
    "3 channels: give in_chans=3": (lambda: create(NAME), {"in_chans": 1}),
    "with global_pool='avg'": (lambda: create(NAME, global_pool="avg"), {}),
    "with global_pool='token'": (lambda: create(NAME), {"global_pool": "avg"}),
    r"missing blocks\.1\.norm1\.weight.* and 124 more; misshapen cls_token": (
        lambda: create("deit_small_patch16_224", depth=1), {},
    ),
    "patches of 32, 32 pixels, and this one's are of 16, 16": (
        lambda: create(NAME, patch_size=32), {"img_size": 224},
    ),
}  # fmt: skip


@pytest.mark.parametrize("hint", MISFITS)
def test_misfits_name_the_argument_that_mends_them(hint, tmp_path):
    build, kwargs = MISFITS[hint]
    path = file_of(build(), tmp_path)
    with pytest.raises(ValueError, match="the weights do not fit the model: ") as error:
        dsm_ext.from_timm(NAME, weights=path, **kwargs)
    assert error.match(hint)
    assert error.match(f"{path} as {NAME}")
    with pytest.raises(RuntimeError):  # timm refuses the file too
        timm.create_model(NAME, checkpoint_path=str(path), **kwargs)


def test_tensors_that_are_no_weights(tmp_path):
    path = file_of(create(NAME), tmp_path, **{"norm.bias": torch.zeros(192, dtype=torch.int8)})
    with pytest.raises(TypeError, match=r"floating point dtype, got 'norm\.bias' of torch\.int8"):
        dsm_ext.from_timm(NAME, weights=path)
    torch.save(timm.create_model(NAME, device="meta").state_dict(), tmp_path / "meta.pt")
    with pytest.raises(ValueError, match=r"'cls_token' has no values"):
        dsm_ext.from_timm(NAME, weights=tmp_path / "meta.pt")


def test_checkpoints_of_transformers_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"vit.embeddings.patch_embeddings.projection.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"dsm_ext\.from_transformers reads its folders"):
        dsm_ext.from_timm(NAME, weights=path)


SIZES = [
    64, np.int64(64), [64, 64], (np.int32(64), 64), np.array([64, 64]), torch.Size([64, 64]),
    torch.tensor(64), torch.tensor([64, 64]), iter([64, 64]),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: type(size).__name__)
def test_whole_numbers_of_any_kind(size):
    model = create_timm(NAME, img_size=size, num_classes=np.int64(3), in_chans=torch.tensor(1))
    assert model.patch_embed.img_size == (64, 64)
    assert (model.num_classes, model.patch_embed.proj.in_channels) == (3, 1)


WRONG = [
    ("img_size", True, TypeError, "expected img_size to be an integer, got True"),
    ("img_size", "224", TypeError, "expected img_size to be an integer, got '224'"),
    ("img_size", 224.0, TypeError, "an integer, got 224.0"),
    ("img_size", (224, None), TypeError, "an integer, got None"),
    ("img_size", (224,), ValueError, r"a side in pixels or \(height, width\), got \(224,\)"),
    ("img_size", (), ValueError, r"a side in pixels or \(height, width\), got \(\)"),
    ("img_size", [3, 224, 224], ValueError, r"got \[3, 224, 224\]"),
    ("img_size", np.ones(10**6, dtype=int), ValueError, "got a ndarray"),
    ("img_size", 0, ValueError, r"in \[1, 65536\], got 0"),
    ("img_size", (224, -16), ValueError, r"in \[1, 65536\], got -16"),
    ("img_size", 10**30, ValueError, r"in \[1, 65536\], got 1000"),
    ("img_size", 8, ValueError, "img_size"),
    ("num_classes", True, TypeError, "expected num_classes to be an integer, got True"),
    ("num_classes", np.bool_(True), TypeError, "expected num_classes to be an integer"),
    ("num_classes", 10.0, TypeError, "an integer, got 10.0"),
    ("num_classes", -1, ValueError, r"in \[0, 16777216\], got -1"),
    ("num_classes", 10**5000, ValueError, "got a int"),
    ("num_classes", torch.ones(3), TypeError, "got a Tensor of shape"),
    ("in_chans", 0, ValueError, r"in \[1, 4096\], got 0"),
    ("in_chans", "3", TypeError, "an integer, got '3'"),
    ("global_pool", "mean", ValueError, "'', 'token', 'avg' and 'map', got 'mean'"),
    ("global_pool", 3, TypeError, "expected global_pool to be a string, got 3"),
    ("global_pool", "avgmax", NotImplementedError, "a pooling other than token, avg or map"),
    ("device", "gpu", ValueError, "expected device to be one that torch knows, got 'gpu'"),
    ("device", 2.5, ValueError, "expected device to be one that torch knows, got 2.5"),
    ("dtype", "float16", TypeError, "expected dtype to be a torch.dtype, got 'float16'"),
]  # fmt: skip


@pytest.mark.parametrize("argument, value, kind, message", WRONG, ids=range(len(WRONG)))
def test_wrong_arguments(argument, value, kind, message):
    with pytest.raises(kind, match=message) as error:
        dsm_ext.from_timm(NAME, weights="nowhere.pt", **{argument: value})
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "argument", ["weights_prefix", "img_size", "num_classes", "in_chans", "global_pool"]
)
def test_arguments_that_go_with_a_name(argument):
    model = create(NAME, depth=1)
    with pytest.raises(TypeError, match=f"{argument}.* go with a model's name"):
        dsm_ext.from_timm(model, **{argument: 0})


def test_what_timm_does_not_make_is_a_named_error():
    with pytest.raises(ValueError, match=r"timm does not make '.*', global_pool='avg': \w"):
        dsm_ext.from_timm("deit_tiny_distilled_patch16_224", weights="a", global_pool="avg")
    with pytest.raises(ValueError, match=f"timm does not make '{NAME}.nowhere'"):
        dsm_ext.from_timm(f"{NAME}.nowhere", weights="a")
    for name in ("", "a/b", "../a", "deit tiny", "none:a"):
        with pytest.raises(ValueError, match=f"timm .*{re.escape(name)}"):
            dsm_ext.from_timm(name, weights="a")


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_small_patch16_18x2_224", "eva02_enormous_patch14_clip_224"]
)
@pytest.mark.parametrize("kwargs", [{}, {"img_size": 64}, {"global_pool": "map"}])
def test_unsupported_names_are_refused_before_anything_is_downloaded(name, kwargs, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", asked)
    with pytest.raises(NotImplementedError, match="is not supported; the nearest supported"):
        dsm_ext.from_timm(name, pretrained=True, **kwargs)


@torch.no_grad()
def test_a_new_head_for_weights_that_timm_has(tmp_path):
    """For another number of classes the model gets a head with random weights, as in timm."""
    folder = tmp_path / "hub"
    timm.models._hub.save_for_hf(create(NAME, num_classes=5), folder)
    images = torch.randn(1, 3, 224, 224)
    name = f"local-dir:{folder}"
    theirs = timm.create_model(name, pretrained=True).eval()
    assert_close(dsm_ext.from_timm(name, "dense", pretrained=True)(images), theirs(images))
    assert dsm_ext.from_timm(name, pretrained=True, num_classes=3)(images).shape == (1, 3)
    features = dsm_ext.from_timm(name, "dense", pretrained=True, num_classes=0)
    assert_close(features(images), theirs.forward_head(theirs.forward_features(images), True))
