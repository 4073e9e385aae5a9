"""NaN and infinity in an image or a weight: every path gives what timm or the reference gives.

A dense model is compared with timm, a merging model with the reference. Where they give NaN or
infinity, each path must give NaN or infinity, and elsewhere the same numbers. NaN in one image must
not reach another image. A layer norm's variance overflows for values above 1e19. From 1e19 to 1e24
torch may return the norm's bias, which is wrong, and the fast path returns NaN. So these tests use
larger values.
"""

import math

import pytest
import torch
from features import FEATURES, build
from models import images_for, small
from rotary_features import ROTARY
from timm.layers import get_act_layer
from tolerance import assert_close

import dsm_ext
from dsm_ext import reference

SCHEDULES = ["dense", "dsm:r=8,skip=1,local=2,window=5"]
VALUES = [math.nan, math.inf, -math.inf, 1e30, -1e36]
# Its square is far above float32's range, so that a sum overflows in each order of additions.
WEIGHT = 1e28


def expected_of(model, images, schedule):
    with torch.no_grad():
        if schedule == "dense":
            return model(images)
        return reference.forward(model, images, dsm_ext.Schedule.parse(schedule, 4))


def paths(model, schedule):
    for path in ("fast", "aten"):
        fast = dsm_ext.from_timm(model, schedule)
        fast.cpu_path = path
        yield fast


def assert_as_finite(actual, expected):
    """Both are finite at the same places and equal there. Each image has a scale of its own."""
    assert actual.shape == expected.shape
    assert torch.equal(actual.isfinite(), expected.isfinite())
    for one, other in zip(actual, expected, strict=True):
        finite = other.isfinite()
        assert_close(one[finite], other[finite])


def spoil(images, value, everywhere):
    """Put the value into one pixel of image 1, or into all its pixels."""
    images = images.clone()
    if everywhere:
        images[1] = value
    else:
        images[1, 0, 17, 22] = value
    return images


SPOILERS = [
    (math.nan, False), (math.inf, False), (1e30, False), (-math.inf, True), (-1e36, True),
]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FEATURES)
def test_pixels(name, schedule):
    model = build(name)
    images = images_for(model, 3)
    models = [(fast, fast(images), fast.trace(images)) for fast in paths(model, schedule)]
    for value, everywhere in SPOILERS:
        if name in ROTARY and schedule != "dense" and everywhere:
            continue  # of equal patches, turned by their places, rounding decides which merge
        spoiled = spoil(images, value, everywhere)
        expected = expected_of(model, spoiled, schedule)
        assert expected[[0, 2]].isfinite().all()
        for fast, good, good_trace in models:
            actual = fast(spoiled)
            try:
                assert_as_finite(actual, expected)
                trace = fast.trace(spoiled)
                assert_as_finite(trace.logits, expected)
            except AssertionError as error:
                raise AssertionError(f"{value}, {fast.cpu_path}: {error}") from error
            if fast.cpu_path == "fast" or schedule == "dense":
                assert torch.equal(actual[[0, 2]], good[[0, 2]])
            assert torch.equal(trace.source[[0, 2]], good_trace.source[[0, 2]])


LAYERS = [
    "patch_embed.proj.weight", "patch_embed.norm.weight", "pos_embed", "cls_token", "reg_token",
    "norm_pre.weight", "blocks.0.norm1.weight", "blocks.1.norm1.bias", "blocks.1.attn.qkv.weight",
    "blocks.2.attn.qkv.bias", "blocks.1.attn.q_norm.weight", "blocks.1.attn.k_norm.weight",
    "blocks.1.attn.norm.weight", "blocks.1.attn.proj.weight", "blocks.1.ls1.gamma",
    "blocks.1.norm2.weight", "blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc1.bias",
    "blocks.1.mlp.fc1_g.weight", "blocks.1.mlp.fc1_x.weight", "blocks.1.mlp.norm.weight",
    "blocks.1.mlp.fc2.weight", "blocks.3.mlp.fc2.bias", "blocks.1.ls2.gamma", "norm.weight",
    "attn_pool.latent", "attn_pool.q.weight", "attn_pool.kv.weight", "attn_pool.proj.weight",
    "attn_pool.norm.weight", "attn_pool.mlp.fc1.weight", "attn_pool.mlp.fc2.weight",
    "fc_norm.weight", "head.weight", "head_dist.weight", "head.bias",
]  # fmt: skip
MODELS = ["average pooling beside a class token", "a GELU gate with its norm", "RMS norm",
          "SwiGLU", "everything", "pre-norm", "a norm of the patches", "QuickGELU",
          "GELU by tanh", "norms in attention and MLP", "q/k norm"]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", MODELS)
def test_huge_weights(name, schedule):
    model = build(name)
    parameters = dict(model.named_parameters())
    images = images_for(model, 3)
    tried = 0
    for layer in LAYERS:
        if layer not in parameters:
            continue
        tried += 1
        weight = parameters[layer].data
        before = weight.clone()
        weight.mul_(WEIGHT)
        expected = expected_of(model, images, schedule)
        for fast in paths(model, schedule):
            try:
                assert_as_finite(fast(images), expected)
            except AssertionError as error:
                raise AssertionError(f"{layer}, {fast.cpu_path}: {error}") from error
        weight.copy_(before)
    assert tried > 10


@pytest.mark.parametrize("norm", ["norm1", "norm2", "attn.q_norm", "attn.k_norm"])
def test_a_norm_whose_variance_overflows_is_nan(norm):
    """torch may return the norm's bias here; the fast path returns NaN."""
    model = small(qk_norm=True)
    with torch.no_grad():
        if "attn" in norm:  # the input of these norms is the output of qkv
            model.blocks[1].attn.qkv.weight.mul_(1e20)
        else:
            model.blocks[0].mlp.fc2.weight.mul_(1e22)
    fast = dsm_ext.from_timm(model, "dense")
    assert fast(images_for(model, 2)).isnan().all()


ACTIVATIONS = {
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations_at_their_ends(act):
    """The model has one patch, and all its values are 0 but one of the MLP's hidden layer."""
    model = small(
        img_size=4, depth=1, class_token=False, global_pool="avg", fc_norm=False, final_norm=False,
        num_classes=0, act_layer=get_act_layer(act),
    )  # fmt: skip
    images = images_for(model, 1)
    fast = dsm_ext.from_timm(model, "dense")
    with torch.no_grad():
        for name, parameter in fast.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        fast.get_parameter("blocks.0.mlp.fc2.weight")[:, 5] = 1
    bias = fast.get_parameter("blocks.0.mlp.fc1.bias")
    ends = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e20, -1e20, 100, -100, 9, -9, -0.0]
    for value in ends:
        with torch.no_grad():
            bias[5] = value
        expected = ACTIVATIONS[act](torch.tensor(value, dtype=torch.float64)).float()
        actual = fast(images)[0, 0]
        assert actual.isnan() == expected.isnan()
        if not expected.isnan():
            assert actual == pytest.approx(expected.item(), rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("sized", [False, True])
def test_attention(which, value, sized, cpu_parts):
    qkv = torch.randn(2, 37, 3, 2, 32)
    qkv[1, 5, which, 0, 7] = value
    size = torch.randint(1, 9, (2, 37)).float() if sized else None
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(32)
    scores = scores + (size.log()[:, None, None, :] if sized else 0)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    actual = cpu_parts.attention(qkv, size)
    assert torch.equal(actual.isfinite(), expected.isfinite())
    finite = expected.isfinite()
    assert_close(actual[1:][finite[1:]], expected[1:][finite[1:]])
    assert_close(actual[:1], expected[:1])
