"""Rotary models: dense logits equal timm's, merging ones the reference's, with all locations."""

import copy
import os

import pytest
import torch
from models import images_for, small, small_eva
from parity import compare
from rotary_features import ROTARY
from test_rotary_reference import LAYOUTS, MLPS, NORMS, PREFIXES, ROPES, mean_locations
from tolerance import assert_close

import dsm_ext
from dsm_ext import Global, Schedule, reference

pytestmark = pytest.mark.usefixtures("cpu_path")
SCHEDULE = "dsm:r=16,skip=1,local=2"


def some(cases):
    """All cases; on the stand-in for a GPU, which takes seconds for each, every fifth."""
    return list(cases)[:: 5 if "DSM_EXT_STAND_IN" in os.environ else 1]


def assert_equals_timm_and_reference(model, device, schedule=SCHEDULE):
    model = model.to(device)
    images = images_for(model, 2).to(device)
    with torch.no_grad():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))
    compare(model, schedule, images)


@pytest.mark.parametrize("prefix", some(PREFIXES))
@pytest.mark.parametrize("rope", some(ROPES))
def test_rotations(rope, prefix, device):
    model = small_eva(**ROPES[rope], **PREFIXES[prefix])
    assert dsm_ext.from_timm(model).config.prefix == prefix
    assert_equals_timm_and_reference(model, device)


@pytest.mark.parametrize("layout", some(LAYOUTS))
@pytest.mark.parametrize("mlp", some(MLPS))
def test_layouts(layout, mlp, device):
    for rope, norm in zip(("cat, scaled", "dinov3", "cat, xy", "mixed"), NORMS, strict=True):
        if rope == "mixed" and "num_kv_heads" in LAYOUTS[layout]:
            continue
        model = small_eva(**ROPES[rope], **LAYOUTS[layout], **MLPS[mlp], **NORMS[norm])
        assert_equals_timm_and_reference(model, device)


@pytest.mark.parametrize("schedule", ["tome:r=20", "dfe:r=30,skip=2", "dsm:r=20,local=2,window=5",
                                      "dsm:r=30,local=4,skip=0,window=20"])  # fmt: skip
@pytest.mark.parametrize("size", [(56, 56), (36, 60)])
@pytest.mark.parametrize("rope", some(["cat, xy, scaled", "dinov3", "mixed, xy"]))
def test_schedules_and_oblongs(rope, size, schedule, device):
    model = small_eva(**ROPES[rope], img_size=size)
    assert_equals_timm_and_reference(model, device, schedule)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("half", [False, True])
def test_head_sizes(heads, half, device):
    for width in (32, 96):
        assert_equals_timm_and_reference(
            small_eva(embed_dim=width, num_heads=heads, rope_rotate_half=half), device
        )


@pytest.mark.parametrize("make", [small, small_eva])
@pytest.mark.parametrize("schedule", [SCHEDULE, "tome:r=49", "dense"])
def test_a_location_is_the_mean_of_its_patches(make, schedule, device):
    for size in ((56, 56), (36, 60)):
        model = make(img_size=size, reg_tokens=2) if make is small else make(img_size=size)
        fast = dsm_ext.from_timm(model.to(device), schedule)
        trace = fast.trace(images_for(model, 3).to(device))
        prefix, tokens = fast.config.prefix, trace.size.shape[1]
        assert trace.location.shape == (3, tokens, 2)
        assert trace.location[:, :prefix].isnan().all()
        source = trace.source.long().cpu()
        expected = mean_locations(source, tokens, model.patch_embed.grid_size)
        assert_close(trace.location[:, prefix:].cpu(), expected[:, prefix:])


SIZES = [(56, 56), (40, 72), (28, 28), (112, 80)]


@pytest.mark.parametrize("rope", some(ROPES))
@pytest.mark.parametrize("schedule", ["dense", "dsm:r=8,skip=1,local=2,window=5"])
def test_sizes_from_call_to_call(rope, schedule, device):
    model = small_eva(**ROPES[rope], dynamic_img_size=True).to(device)
    fast = dsm_ext.from_timm(model, schedule)
    for height, width in SIZES * 2:
        images = torch.randn(2, 3, height, width, device=device)
        assert_close(fast(images), reference.forward(model, images, fast.schedule))
        if schedule == "dense":
            with torch.no_grad():
                assert_close(fast(images), model(images))


def test_dynamic_sizes_can_be_asked_for(device):
    model = small_eva(rope_type="dinov3").to(device)
    expected = small_eva(rope_type="dinov3", dynamic_img_size=True).to(device)
    expected.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 40, 72, device=device)
    fast = dsm_ext.from_timm(model, "dense", dynamic_img_size=True)
    with torch.no_grad():
        assert_close(fast(images), expected(images))
    with pytest.raises(ValueError, match="multiples of 4 and 4 pixels"):
        fast(torch.randn(2, 3, 42, 72, device=device))
    with pytest.raises(ValueError, match="images of 56 x 56 pixels, got 40 x 72"):
        dsm_ext.from_timm(model, "dense")(images)


def test_a_merge_that_nothing_uses_changes_nothing(device):
    """In the last block attention comes before the merge, and the class token does not merge."""
    model = small_eva(global_pool="token").to(device)
    images = images_for(model, 4).to(device)
    last = Schedule([None, None, None, Global(80)])
    assert_close(dsm_ext.from_timm(model, last)(images), dsm_ext.from_timm(model, "dense")(images))


@pytest.mark.parametrize("schedule", ["dense", SCHEDULE])
def test_a_shift_of_all_locations_changes_nothing(schedule, device):
    """Scores depend on differences of locations alone, where no prefix token stays unrotated."""
    model = small_eva(class_token=False, rope_grid_offset=0.0).to(device)
    shifted = small_eva(class_token=False, rope_grid_offset=3.5).to(device)
    shifted.load_state_dict(model.state_dict())
    images = images_for(model, 4).to(device)
    one, other = (dsm_ext.from_timm(m, schedule)(images) for m in (model, shifted))
    assert_close(one, other)


def test_the_rotation_of_a_merged_token_is_that_of_its_location(device):
    """A model without rotations gives something else from the same weights."""
    model = small_eva(global_pool="token").to(device)
    plain = small_eva(global_pool="token", use_rot_pos_emb=False).to(device)
    plain.load_state_dict(model.state_dict())
    images = images_for(model, 4).to(device)
    one, other = (dsm_ext.from_timm(m, SCHEDULE)(images) for m in (model, plain))
    assert (one - other).abs().max() > 0.01 * one.abs().max()


@pytest.mark.parametrize("name", ROTARY)
def test_copies_and_frozen_models(name, cpu_path):
    fast = dsm_ext.from_timm(model := small_eva(**ROTARY[name]), SCHEDULE)
    images = images_for(model, 2)
    expected = fast(images)
    assert torch.equal(copy.deepcopy(fast)(images), expected)
    assert dsm_ext.Config(**fast.config.to_dict()) == fast.config
    if cpu_path == "fast":
        assert torch.equal(fast.freeze()(images), expected)


@pytest.mark.parametrize("shape", [(2, 4, 2), (3, 5, 2), (2, 5, 3), (5, 2)])
def test_locations_of_another_size_are_named(shape, device):
    q, k = torch.randn(2, 2, 2, 5, 8, device=device)
    frequencies = torch.ones(2, 1, 4, device=device)
    location = torch.zeros(shape, device=device)
    with pytest.raises(ValueError, match=r"_rotate_: expected location to be \[2, 5, 2\], got"):
        torch.ops.dsm_ext._rotate_(q, k, location, frequencies, [1, 1, 0, 0], 0, 1, True)
    with pytest.raises(ValueError, match=r"expected frequencies to be \[2, H or 1, D / 2\]"):
        torch.ops.dsm_ext._rotate_(
            q, k, location.new_zeros(2, 5, 2), frequencies[..., :3], [1, 1, 0, 0], 0, 1, True
        )


def test_learned_frequencies_of_many_tokens():
    """A table of all blocks' rotations would be large here; the fast path computes them anew."""
    model = small_eva(depth=200, img_size=148, rope_type="mixed")
    fast = dsm_ext.from_timm(model, "dense")
    images = images_for(model, 1)
    results = {}
    for path in ("fast", "aten"):
        fast.cpu_path = path
        results[path] = fast(images)
    assert_close(results["fast"], results["aten"])


def test_frequencies_are_needed():
    model = small_eva(rope_type="mixed")
    config = dsm_ext.from_timm(model).config
    state = {name: p.detach() for name, p in model.named_parameters()}
    freqs = state.pop("rope.freqs")
    with pytest.raises(ValueError, match=r"missing.*rope\.freqs"):
        dsm_ext.VisionTransformer(config, "dense", state)
    with pytest.raises(ValueError, match=r"rope\.freqs"):
        dsm_ext.VisionTransformer(config, "dense", state | {"rope.freqs": freqs[:, :2]})
    with pytest.raises(ValueError, match=r"unexpected.*rope\.freqs"):
        state = {name: p.detach() for name, p in small_eva().named_parameters()}
        config = dsm_ext.from_timm(small_eva()).config
        dsm_ext.VisionTransformer(config, "dense", state | {"rope.freqs": freqs})


@pytest.mark.parametrize(
    "field, value, text",
    [
        ("rope_type", "mrope", "rope_type"),
        ("embed_dim", 72, "head size .* to be a multiple of 4 .*, got 6"),
        ("rope_grid_indexing", "yx", "rope_grid_indexing"),
        ("rope_temperature", 0.0, "rope_temperature cannot be 0"),
        ("rope_temperature", float("nan"), "rope_temperature cannot be nan"),
        ("rope_grid_offset", float("inf"), "rope_grid_offset cannot be inf"),
        ("ref_feat_shape", (16, 0), "ref_feat_shape to be a height and a width"),
        ("ref_feat_shape", (-1, 16), r"ref_feat_shape to be in \[0"),
        ("num_kv_heads", 5, "num_kv_heads to divide num_heads = 12"),
        ("num_kv_heads", 13, r"num_kv_heads to be in \[0, 12\]"),
        ("num_full_attn_blocks", 13, r"num_full_attn_blocks to be in \[0, 12\]"),
        ("attn_pool_num_heads", 7, "embed_dim to be a multiple of attn_pool_num_heads = 7"),
        ("attn_only_layer_scale", True, "attn_only_layer_scale to go with layer_scale"),
        ("block", "parallel", "parallel"),
    ],
)
def test_bad_configs_are_named(field, value, text):
    usual = {"block": "eva", "rope_type": "cat", "embed_dim": 768, "depth": 12, "num_heads": 12}
    dsm_ext.Config(**usual)
    with pytest.raises(ValueError, match=text):
        dsm_ext.Config(**usual | {field: value})
