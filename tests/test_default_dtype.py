"""Results do not depend on torch's default dtype and default device."""

import copy
from contextlib import contextmanager

import pytest
import torch
from models import images_for, small

import dsm_ext
from dsm_ext import reference

SCHEDULE = dsm_ext.Schedule([[dsm_ext.Local(8, 7), dsm_ext.Global(9)], None, dsm_ext.Global(5), []])
MODELS = {
    "class token": {},
    "everything": {
        "reg_tokens": 3, "no_embed_class": True, "global_pool": "map", "fc_norm": True,
        "pre_norm": True, "init_values": 0.1, "qk_norm": True, "scale_attn_norm": True,
        "scale_mlp_norm": True, "dynamic_img_size": True,
    },
    "average": {"class_token": False, "global_pool": "avg"},
    "no head": {"num_classes": 0, "distilled": True},
}  # fmt: skip


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


DEFAULTS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "set_default_device": lambda: default_device("meta"),
    "with torch.device": lambda: torch.device("meta"),
}


@pytest.fixture(params=DEFAULTS)
def default(request):
    return DEFAULTS[request.param]


def flat(*values):
    """All tensors of nested tuples and lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from flat(*value)


def assert_same_bits(actual, expected):
    actual, expected = list(flat(actual)), list(flat(expected))
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def calls_of(timm_model, images, dtype):
    """Make a model and call each of its methods."""
    fast = dsm_ext.from_timm(timm_model, SCHEDULE, dtype=dtype)
    other = fast(images[:, :, :28]) if fast.config.dynamic_img_size else None
    assert fast.profile(images)["wall"] > 0
    return [
        fast(images),
        fast.trace(images),
        fast.forward_features(images),
        fast.forward_features(images, dense=True),
        fast.forward_intermediates(images, [0, 2], norm=True),
        fast.get_intermediate_layers(images, 2, reshape=True),
        copy.deepcopy(fast)(images),
        other,
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.usefixtures("cpu_path")
def test_models(name, dtype, default):
    model = small(**MODELS[name])
    images = images_for(model, 3).to(dtype)
    expected = calls_of(model, images, dtype)
    with default():
        actual = calls_of(model, images, dtype)
    assert_same_bits(actual, expected)


def test_an_empty_model_is_float32(default):
    with default():
        model = dsm_ext.VisionTransformer(dsm_ext.Config(depth=2))
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, "cpu")}


def test_files(default, tmp_path):
    model = small()
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, SCHEDULE)
    expected = fast(images)
    with default():
        dsm_ext.export(fast, tmp_path)
        loaded = dsm_ext.load(tmp_path)
        half = dsm_ext.load(tmp_path, dtype=torch.bfloat16)
        assert_same_bits(loaded(images), expected)
        frozen = loaded.freeze()
        assert_same_bits(frozen(images), expected)
    assert_same_bits(half.head.weight, fast.head.weight.bfloat16())
    assert_same_bits(
        half(images.bfloat16()), dsm_ext.load(tmp_path, dtype=torch.bfloat16)(images.bfloat16())
    )


@pytest.mark.parametrize("mode", ["squash", "border"])
def test_preprocessing(mode, default):
    preprocessing = dsm_ext.Preprocessing(size=(40, 24), crop_mode=mode)
    picture = torch.randint(256, (30, 50, 3), dtype=torch.uint8)
    expected = preprocessing(picture)
    with default():
        assert_same_bits(preprocessing(picture), expected)


@pytest.mark.parametrize("name", MODELS)
def test_reference(name, default):
    model = small(**MODELS[name])
    images = images_for(model, 2)

    def calls():
        return [
            reference.forward(model, images, SCHEDULE),
            reference.forward(model, images, reference.plain(SCHEDULE), ops=dsm_ext),
            reference.trace(model, images, SCHEDULE),
            reference.forward_intermediates(model, images, SCHEDULE, [0, 2]),
        ]

    expected = calls()
    with default():
        actual = calls()
    assert_same_bits(actual, expected)


def test_operators(default):
    metric = torch.randn(2, 37, 8)
    size, order = torch.ones(2, 37), torch.randperm(36, dtype=torch.int32)

    def calls():
        windows = [20, 16]
        place = dsm_ext.match(metric, 10, prefix=1, windows=windows, order=order)
        merged = dsm_ext.merge(metric, size, place, 27)
        return [
            place,
            dsm_ext.match(metric, 0),
            merged,
            dsm_ext.unmerge(merged[0], place),
            reference.match(metric, 5, 1, windows, order),
            reference.match(metric, 5, 1),
        ]

    expected = calls()
    with default():
        actual = calls()
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("default", ["float64", "with torch.device"], indirect=True)
@pytest.mark.parametrize("name", ["class token", "average"])
def test_exported_programs(name, default):
    model = small(**MODELS[name])
    images = images_for(model, 2)

    class Merging(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return reference.forward(self.model, images, plain, ops=dsm_ext)

    plain = reference.plain(SCHEDULE)
    expected = torch.export.export(Merging(), (images,)).module()(images)
    with default():
        program = torch.export.export(Merging(), (images,))
        actual = program.module()(images)
    assert_same_bits(actual, expected)
