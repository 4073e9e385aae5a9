"""A merging model gives the results of the reference, and ToMe's schedule those of plain loops."""

import pytest
import torch
from models import create, images_for, small
from naive import tome_forward
from parity import compare
from tolerance import assert_close, assert_error_at_most_twice

import dsm_ext
from dsm_ext import Global, Local, Schedule, reference

pytestmark = pytest.mark.usefixtures("cpu_path")

SCHEDULES = {
    "dsm": "dsm:r=16,skip=1,local=2",
    "dsm, all local": "dsm:r=13,skip=0,local=4",
    "dfe": "dfe:r=30,skip=2",
    "tome": "tome:r=8",
    "tome, falling": "tome:r=20,inflection=-1",
    "tome, a list": "tome:r=98/40/0/3",
    "tome to the last token": "tome:r=98",
    "without proportional attention": "dsm:r=16,skip=1,local=2,proportional=false",
    "ragged windows": "dsm:r=20,skip=1,local=2,window=5",
    "one window": "dsm:r=20,skip=1,local=2,window=14",
    "small windows": "dsm:r=49,skip=0,local=4,window=2",
    "windows of one patch": "dsm:r=16,skip=1,local=2,window=1",
    "windows used up": "dsm:r=96,skip=0,local=4,window=7",
    "local and global in a block": Schedule(
        [None, [Local(16, 7), Global(8)], None, Global(5)]
    ),
    "a dense block between local ones": Schedule([Local(16, 7), None, Local(8, 7), Global(5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("distilled", [False, True], ids=["class token", "distilled"])
def test_equals_reference(name, distilled, device):
    model = small(distilled=distilled).to(device)
    compare(model, SCHEDULES[name], images_for(model, 8).to(device))


@pytest.mark.parametrize(
    "architecture, arguments, schedule",
    [
        ("vit_tiny_patch16_224", {}, "dsm"),
        ("deit_tiny_distilled_patch16_224", {}, "dsm:r=16,skip=2,local=5"),
        ("deit_base_patch16_384", {"depth": 2}, "dsm:r=40,skip=0,local=1"),
        ("vit_tiny_patch16_224", {"img_size": (160, 256)}, "dsm:r=12"),
        ("vit_tiny_patch16_224", {"img_size": (100, 90), "depth": 4}, "dsm:r=4,window=2"),
    ],
)
def test_timm_architectures(architecture, arguments, schedule, device):
    model = create(architecture, **arguments).to(device)
    compare(model, schedule, images_for(model, 4).to(device))


@pytest.mark.parametrize("distilled", [False, True], ids=["class token", "distilled"])
@pytest.mark.parametrize("r", [8, 16, 60])
def test_tome_equals_loops(distilled, r, device):
    model = small(distilled=distilled, img_size=32, patch_size=4, depth=3)  # 64 patches
    images = images_for(model, 3)
    r = min(r, 32)
    trace = dsm_ext.from_timm(model.to(device), f"tome:r={r}").trace(images.to(device))
    model.cpu()
    for i, image in enumerate(images):
        with torch.no_grad():
            logits, source, size = tome_forward(model, image, [r] * 3)
        assert trace.source[i].tolist() == source
        assert torch.equal(trace.size[i].cpu(), size)
        assert_close(trace.logits[i].cpu(), logits, scale=trace.logits.abs().max().item())


@pytest.mark.parametrize("rule", ["", ",metric=keys+tokens,protect=0.2"])
def test_permuted_batch_gives_permuted_result(rule, device):
    model = small().to(device)
    fast = dsm_ext.from_timm(model, f"dsm:r=16{rule}")
    images = images_for(model, 6).to(device)
    permutation = torch.randperm(6, device=device)
    trace, again = fast.trace(images), fast.trace(images[permutation])
    assert torch.equal(again.source, trace.source[permutation])
    assert torch.equal(again.size, trace.size[permutation])
    assert_close(again.logits, trace.logits[permutation])


def test_dense_blocks_around_a_merge_leave_the_class_row_alone():
    """A merge step in the last block changes no logit."""
    model = small()
    images = images_for(model, 4)
    last = Schedule([None, None, None, Global(40)])
    assert_close(dsm_ext.from_timm(model, last)(images), dsm_ext.from_timm(model, "dense")(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_exact_as_eager(dtype, device):
    # Other tokens may merge in another dtype, so that results differ by more than rounding. The
    # test compares mean errors over many images.
    model = create("vit_tiny_patch16_224", depth=6).to(device)
    images = images_for(model, 16).to(device)
    schedule = Schedule.parse("dsm:r=16", 6)
    exact = reference.forward(model.double(), images.double(), schedule)
    eager = reference.forward(model.to(dtype), images.to(dtype), schedule)
    actual = dsm_ext.from_timm(model, schedule)(images.to(dtype))
    assert_error_at_most_twice(actual, eager, exact)
