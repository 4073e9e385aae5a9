"""The reference computes timm's ``Eva``, and rotates merged tokens by their locations."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from models import images_for, small, small_eva
from timm.layers import LayerNorm, RmsNorm, apply_rot_embed_cat
from tolerance import assert_close

from dsm_ext import Schedule, reference
from dsm_ext.reference.rotary import angles, initial_locations, rotate

DENSE = [(), (), (), ()]
SCHEDULE = Schedule.parse("dsm:r=16,skip=1,local=2,window=5", 4)
ROPES = {
    "cat": {},
    "cat, another temperature and offset": {"rope_temperature": 50.0, "rope_grid_offset": 0.25},
    "cat, by halves": {"rope_rotate_half": True},
    "cat, xy": {"rope_grid_indexing": "xy"},
    "cat, xy, scaled": {"rope_grid_indexing": "xy", "ref_feat_shape": (7, 11)},
    "cat, scaled": {"ref_feat_shape": (20, 11), "rope_grid_offset": 1.0},
    "dinov3": {"rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True},
    "dinov3, xy, interleaved": {"rope_type": "dinov3", "rope_grid_indexing": "xy"},
    "dinov3, offset": {"rope_type": "dinov3", "rope_grid_offset": 0.5},
    "mixed": {"rope_type": "mixed"},
    "mixed, xy": {"rope_type": "mixed", "rope_grid_indexing": "xy"},
}
PREFIXES = {
    0: {"class_token": False},
    1: {},
    4: {"class_token": False, "num_reg_tokens": 4},
    5: {"num_reg_tokens": 4},
    9: {"num_reg_tokens": 8, "no_embed_class": True},
}
ROPE = {"attn_type": "rope"}
LAYOUTS = {
    "one layer": {},
    "one layer with all biases": ROPE,
    "one layer without biases": {"qkv_bias": False},
    "three layers": {"qkv_fused": False},
    "three layers with all biases": ROPE | {"qkv_fused": False},
    "three layers without biases": {"qkv_fused": False, "qkv_bias": False},
    "fewer key and value heads": ROPE | {
        "qkv_fused": False, "num_heads": 4, "num_kv_heads": (4, 1, 1, 4),
    },
    "fewer key and value heads in all blocks": ROPE | {
        "qkv_fused": False, "num_heads": 4, "num_kv_heads": 2,
    },
}  # fmt: skip
MLPS = {
    "MLP": {},
    "MLP with a norm": {"scale_mlp": True},
    "packed": {"swiglu_mlp": True},
    "gated": {"swiglu_mlp": True, "swiglu_align_to": 8},
    "gated with a norm": {"swiglu_mlp": True, "scale_mlp": True},
}
NORMS = {
    "layer norm": {"norm_layer": partial(LayerNorm, eps=1e-5)},
    "RMS norm, q/k norm": {"norm_layer": partial(RmsNorm, eps=1e-6), "qk_norm": True},
    "norm in attention, LayerScale": {"scale_attn_inner": True, "init_values": 0.2},
    "pre-norm, LayerScale of attention alone": {
        "use_pre_transformer_norm": True, "init_values": 0.2, "attn_only_layer_scale": True,
    },
}  # fmt: skip


def assert_dense_equals_timm(model):
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(reference.forward(model, images, DENSE), model(images))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("rope", ROPES)
def test_rotations_equal_timm(rope, prefix):
    for size in ({}, {"img_size": (36, 60)}):
        model = small_eva(**ROPES[rope], **PREFIXES[prefix], **size)
        assert model.num_prefix_tokens == prefix
        assert_dense_equals_timm(model)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rope", ["cat, scaled", "dinov3", "mixed"])
def test_layouts_equal_timm(rope, layout):
    if rope == "mixed" and "num_kv_heads" in LAYOUTS[layout]:
        pytest.skip("timm's mixed rotations have a frequency for each query head")
    for mlp, norm in itertools.product(MLPS.values(), NORMS.values()):
        assert_dense_equals_timm(small_eva(**ROPES[rope], **LAYOUTS[layout], **mlp, **norm))


@pytest.mark.parametrize("pool", ["token", "avg", "map", ""])
def test_pools_equal_timm(pool):
    classes = 0 if pool == "" else 10
    assert_dense_equals_timm(small_eva(global_pool=pool, num_reg_tokens=2, num_classes=classes))


def mean_locations(source, tokens, grid):
    """The mean of the centres of the patches that each token holds [B, M, 2], in float64."""
    centres = torch.tensor([[i + 0.5, j + 0.5] for i in range(grid[0]) for j in range(grid[1])])
    held = torch.nn.functional.one_hot(source, tokens).double()  # [B, gh * gw, M]
    return held.transpose(1, 2) @ centres.double() / held.sum(1)[..., None]


@pytest.mark.parametrize("make", [small, small_eva])
@pytest.mark.parametrize("arguments", [{}, {"img_size": (36, 60)}, {"class_token": False}])
@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule.parse("tome:r=40", 4)], ids=str)
def test_a_location_is_the_mean_of_its_patches(make, arguments, schedule):
    model = make(global_pool="avg", **arguments)
    images = images_for(model, 3)
    for dtype in (torch.float32, torch.float64):
        _, source, size, location = reference.trace(model.to(dtype), images.to(dtype), schedule)
        prefix = model.num_prefix_tokens
        assert location.dtype == dtype
        assert location[:, :prefix].isnan().all()
        expected = mean_locations(source, size.shape[1], model.patch_embed.grid_size)
        assert_close(location[:, prefix:], expected[:, prefix:])


def test_the_first_locations():
    x = torch.zeros(2, 7, 4, dtype=torch.bfloat16)
    location = initial_locations((2, 3), 1, x)
    assert location.shape == (2, 7, 2) and location.dtype == torch.float32
    assert location[0, 1:].tolist() == [[i + 0.5, j + 0.5] for i in range(2) for j in range(3)]


@pytest.mark.parametrize("rope", ROPES)
def test_rotations_of_patches_are_those_of_timm(rope):
    """Also in another picture's grid."""
    model = small_eva(**ROPES[rope], dynamic_img_size=True)
    grid, half = (9, 15), ROPES[rope].get("rope_rotate_half", False)
    x = torch.randn(1, 2, 135, 16)
    location = initial_locations(grid, 0, x[:, 0])
    with torch.no_grad():
        expected = model.rope.get_embed(shape=list(grid))
        for block in range(4):
            own = rotate(x, angles(model, location, grid, block), half)
            embed = expected[block] if model.rope_mixed else expected
            assert_close(own, apply_rot_embed_cat(x, embed, half=half))


@pytest.mark.parametrize("half", [False, True])
def test_scores_depend_on_the_difference_of_two_locations(half):
    model = small_eva(rope_rotate_half=half)
    q, k = torch.randn(2, 1, 2, 5, 16, dtype=torch.float64)
    location = torch.rand(1, 5, 2, dtype=torch.float64) * 14

    def scores(shift):
        turns = angles(model, location + torch.tensor(shift), (14, 14), 0)
        return rotate(q, turns, half) @ rotate(k, turns, half).transpose(-1, -2)

    assert_close(scores([2.5, -1.0]), scores([0.0, 0.0]))
    assert (scores([0.0, 0.0]) - q @ k.transpose(-1, -2)).abs().max() > 0.1
    assert_close(rotate(q, torch.zeros(1, 1, 5, 8), half), q)


def test_the_mean_of_two_rotations_is_none():
    """It shortens a vector, most where the two angles differ most."""
    x = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    turned = rotate(x, torch.tensor([[[[0.0], [math.pi / 2]]]]), half=False)
    assert turned.mean(2).norm().item() == pytest.approx(math.sqrt(0.5))
    middle = rotate(x, torch.full((1, 1, 2, 1), math.pi / 4), half=False)
    assert middle[0, 0, 0].norm().item() == pytest.approx(1)


def test_float64_is_more_exact():
    model = small_eva(rope_type="dinov3", rope_temperature=100.0)
    images = images_for(model, 2)
    exact = reference.forward(copy.deepcopy(model).double(), images.double(), SCHEDULE)
    assert exact.dtype == torch.float64
    assert_close(reference.forward(model, images, SCHEDULE), exact)


def test_rules_for_experiments():
    model = small_eva(rope_type="dinov3", rope_temperature=100.0, rope_rotate_half=True)
    images = images_for(model, 2)
    rule = reference.RotaryRule
    usual = reference.forward(model, images, SCHEDULE)
    assert torch.equal(reference.forward(model, images, SCHEDULE, rotary=rule()), usual)
    for other in (rule(metric="unrotated"), rule(location="destination")):
        logits, source, size, location = reference.trace(model, images, SCHEDULE, rotary=other)
        assert not torch.equal(logits, usual)
        if other.location == "destination":  # the centre of one of the token's own patches
            prefix = model.num_prefix_tokens
            patch = (location[:, prefix:] - 0.5).long() @ torch.tensor([14, 1])
            assert torch.equal(location[:, prefix:] % 1, torch.full_like(location[:, prefix:], 0.5))
            own = source.gather(1, patch)
            assert torch.equal(own, torch.arange(prefix, size.shape[1]).expand_as(own))
