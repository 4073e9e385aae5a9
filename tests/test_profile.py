"""``profile`` gives the time of each stage of a forward, on every path."""

import pytest
import torch
from models import images_for, small
from timm.models.vision_transformer import ParallelScalingBlock

from dsm_ext import from_timm

USUAL = {"norm1", "qkv", "attention", "proj", "norm2", "fc1", "fc2"}


ROUNDING = 0.05  # the events of a GPU have a resolution of half a microsecond


def check_sum(profile):
    assert set(profile) == {"wall", "threads", "before", "blocks", "after"}
    assert set(profile["before"]) == {"embed"}
    assert set(profile["after"]) == {"head"}
    parts = [profile["before"], *profile["blocks"], profile["after"]]
    spent = sum(seconds for part in parts for seconds in part.values())
    assert 0 < spent <= profile["wall"] * profile["threads"] * (1 + ROUNDING)
    return spent


@pytest.mark.parametrize("schedule", ["dsm:r=16,skip=1,local=2", "dense"])
def test_on_the_fast_path(schedule):
    model = small()
    fast, images = from_timm(model, schedule), images_for(model, 8)
    fast(images)
    profile = fast.profile(images)
    check_sum(profile)
    merging = {"match", "merge"} if schedule != "dense" else set()
    assert set(profile["blocks"][0]) == USUAL
    assert set(profile["blocks"][1]) == USUAL | merging
    assert set(profile["blocks"][-1]) == USUAL  # logits do not need the last merge


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["dsm:r=16,skip=1,local=2", "tome:r=8", "dense"])
def test_by_operators(device, dtype, schedule, monkeypatch):
    monkeypatch.setenv("DSM_EXT_CPU", "aten")
    model = small(global_pool="avg").to(device, dtype)
    own, images = from_timm(model, schedule), images_for(model, 2).to(device, dtype)
    profile = own.profile(images)
    assert profile["threads"] == 1
    # The stages follow one another without a gap.
    assert check_sum(profile) == pytest.approx(profile["wall"], rel=ROUNDING)
    merging = USUAL - {"norm2"} | {"match", "merge"}  # one kernel merges and computes norm2
    for block, part in zip(own.plan.blocks, profile["blocks"], strict=True):
        assert set(part) == (merging if block.tokens_out < block.tokens_in else USUAL)
    assert torch.equal(own(images), own(images))  # profile leaves nothing behind


def test_of_parallel_blocks(device):
    model = small(block_fn=ParallelScalingBlock).to(device)
    own, images = from_timm(model, "tome:r=8"), images_for(model, 2).to(device)
    profile = own.profile(images)
    check_sum(profile)
    usual = USUAL - {"norm2"}
    assert set(profile["blocks"][0]) == usual | {"match", "merge"}
    assert set(profile["blocks"][-1]) == usual


def test_of_no_images(device):
    model = small().to(device)
    with pytest.raises(ValueError, match="expected images, got none"):
        from_timm(model, "dense").profile(images_for(model, 0).to(device))
