"""Results in bfloat16 and int8: rounding errors, and what must hold in every precision."""

import copy

import pytest
import torch
from features import FEATURES, build
from models import images_for, small
from test_precision import LOW, PRECISIONS, low
from timm.models.vision_transformer import ParallelScalingBlock
from tolerance import assert_error_at_most_twice

import dsm_ext
from dsm_ext import reference

MERGING = "dsm:r=8,skip=1,local=2,window=5"
NAMES = [name for name in FEATURES if "block_fn" not in FEATURES[name]]
# The largest relative error of a small model's outputs in int8, in the mean over all outputs.
# Weights and activations are rounded by up to 1 / 254 of the largest in their row. Seen: 0.01.
INT8_ERROR = 0.03


def relative_error(actual, expected):
    return ((actual.double() - expected).abs().mean() / expected.abs().mean()).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [low("bfloat16"), low("int8")])
def test_errors_of_every_feature(name, precision):
    model = build(name)
    images = images_for(model, 4)
    fast = dsm_ext.from_timm(model, "dense", precision=precision)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(images.double())
        eager = copy.deepcopy(model).bfloat16()(images.bfloat16())
    if precision == "bfloat16":
        assert_error_at_most_twice(fast(images), eager, exact)
    else:
        assert relative_error(fast(images), exact) <= INT8_ERROR


@pytest.mark.parametrize("precision", [low("bfloat16"), low("int8")])
@pytest.mark.parametrize(
    "shape",
    [
        {"embed_dim": 33, "num_heads": 3},  # odd inputs of every layer, heads of 11
        {"embed_dim": 36, "num_heads": 4, "mlp_ratio": 3.75},  # heads of 9, a hidden layer of 135
        {"embed_dim": 30, "num_heads": 3, "patch_size": 7},  # patches of 147 values, heads of 10
        {"embed_dim": 66, "num_heads": 1, "mlp_ratio": 1.5},  # one head of 66
        {"embed_dim": 128, "num_heads": 1},
        {"embed_dim": 40, "num_heads": 5},  # heads of 8
        {"embed_dim": 27, "num_heads": 3, "global_pool": "map", "class_token": False},
        {"embed_dim": 35, "num_heads": 5, "scale_attn_norm": True, "scale_mlp_norm": True},
    ],
    ids=str,
)
def test_sizes_that_nothing_divides(precision, shape):
    model = small(**shape)
    images = images_for(model, 3)
    fast = dsm_ext.from_timm(model, "dense", precision=precision)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(images.double())
        eager = copy.deepcopy(model).bfloat16()(images.bfloat16())
    if precision == "bfloat16":
        assert_error_at_most_twice(fast(images), eager, exact)
    else:
        assert relative_error(fast(images), exact) <= INT8_ERROR
    fast(images * float("nan"))  # leaves NaN in the memory that the next call uses
    assert fast(images).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("schedule", ["dense", MERGING])
@pytest.mark.parametrize("name", ["LayerScale", "attention pooling", "everything"])
def test_images_do_not_meet(precision, schedule, name):
    model = build(name)
    fast = dsm_ext.from_timm(model, schedule, precision=precision)
    images = images_for(model, 5)
    expected = fast(images)
    order = torch.randperm(5)
    assert torch.equal(fast(images[order]), expected[order])
    others = torch.cat([images[:1], 100 * torch.randn_like(images[1:])])
    assert torch.equal(fast(others)[0], expected[0])
    others[1:, 0, 3, 5] = float("nan")
    others[2:, 0, 3, 5] = float("inf")
    actual = fast(others)
    assert torch.equal(actual[0], expected[0])
    assert not actual[1:].isfinite().any()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_threads_give_the_same_bits(precision, batch):
    model = small(embed_dim=96, num_heads=3)
    images = images_for(model, batch)
    fast = dsm_ext.from_timm(model, MERGING, precision=precision)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(fast(images))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("schedule", ["dense", MERGING])
def test_all_calls_agree(precision, schedule):
    model = small()
    images = images_for(model, 3)
    fast = dsm_ext.from_timm(model, schedule, precision=precision)
    logits = fast(images)
    outputs = fast.forward_with_features(images)
    trace = fast.trace(images)
    assert torch.equal(trace.logits, outputs.logits)
    if schedule == "dense":
        assert torch.equal(trace.logits, logits)
    assert torch.equal(fast.forward_features(images), outputs.features)
    assert fast.forward_features(images, dense=True).shape == (3, 197, 32)
    last = fast.forward_intermediates(images, [1, 3], norm=True)[1]
    assert torch.equal(last.tokens, outputs.features)
    assert fast.profile(images)["blocks"][0]["fc1"] > 0


@pytest.mark.parametrize("precision", LOW)
def test_merging_stays_near_the_reference(precision):
    model = small(embed_dim=64, num_heads=2)
    images = images_for(model, 8)
    schedule = dsm_ext.Schedule.parse(MERGING, 4)
    fast = dsm_ext.from_timm(model, schedule, precision=precision)
    with torch.no_grad():
        expected = reference.forward(model, images, schedule)
    assert relative_error(fast(images), expected.double()) <= 0.15


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_images(precision):
    fast = dsm_ext.from_timm(small(), MERGING, precision=precision)
    assert fast(torch.empty(0, 3, 56, 56)).shape == (0, 10)


@pytest.mark.parametrize("precision", [low("int8")])
@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-38, 1e15])
@pytest.mark.parametrize("layer", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
def test_unusual_channels(precision, value, layer):
    model = small()
    images = images_for(model, 2)
    weight = model.blocks[1].get_submodule(layer).weight
    with torch.no_grad():
        weight[3] = value * torch.randn_like(weight[3]).clamp(-2, 2)
        expected = model(images)
    actual = dsm_ext.from_timm(model, "dense", precision=precision)(images)
    assert expected.isfinite().all()
    assert relative_error(actual, expected.double()) <= INT8_ERROR


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_of_zeros(precision):
    model = small(class_token=False, global_pool="avg", pos_embed="none")
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            if parameter.ndim == 1:
                parameter.zero_()  # norms give zeros, layers have no bias
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, "dense", precision=precision)
    with torch.no_grad():
        expected = model(images)
    assert relative_error(fast(images), expected.double()) <= INT8_ERROR


def test_parallel_blocks_keep_their_float32():
    model = small(block_fn=ParallelScalingBlock)
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, "dense", precision="float32")
    assert relative_error(fast(images), model(images).detach().double()) <= 1e-5
