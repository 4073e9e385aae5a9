"""DeiT-tiny's published weights and photographs, from the folder DSM_EXT_DATA."""

import copy

import pytest
import timm
import torch
from near_ties import recorded_margins
from tolerance import assert_close, far_from_ties

import dsm_ext
from dsm_ext import reference
from dsm_ext.cli import main
from dsm_ext.images import find_images, read_image, transform_for

NAME = "deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def model(data):
    from safetensors.torch import load_file

    model = timm.create_model(NAME).eval()
    model.load_state_dict(load_file(data / f"{NAME}.safetensors"))
    return model


@pytest.fixture(scope="module")
def images(data, model):
    transform = transform_for(model)
    paths = find_images(data / "imagenet_samples")[::10]
    return torch.stack([transform(read_image(path)) for path in paths])


def test_dense_equals_timm(model, images, device):
    fast = dsm_ext.from_timm(model, "dense", device=device)
    with torch.no_grad():
        assert_close(fast(images.to(device)).cpu(), model(images))


@pytest.mark.parametrize(
    "schedule",
    [
        "dsm", "dsm:r=16,skip=2,local=5", "dsm:window=5", "dfe:r=16,skip=2", "tome:r=13",
        "tome:r=8", "tome:r=13,metric=keys+tokens", "dsm:r=13,protect=0.3", "guided:1.7",
    ],
)  # fmt: skip
def test_merging_equals_the_reference(model, images, schedule, device):
    # The reference runs in float64: in float32 its own error reached 1.3e-5 of the scale.
    # 25 pictures are enough to find a wrong merge; the double takes most of this file's time.
    fast = dsm_ext.from_timm(model, schedule, device=device)
    images = images[::2]
    exact = copy.deepcopy(model).double()
    with recorded_margins() as margins:
        logits, source, size, _ = reference.trace(exact, images.double(), fast.schedule)
    clear = far_from_ties(torch.stack(margins).amin(0))
    trace = dsm_ext.Trace(*(tensor.cpu() for tensor in fast.trace(images.to(device))))
    assert torch.equal(trace.source[clear].long(), source[clear])
    assert torch.equal(trace.size[clear], size[clear])
    assert_close(trace.logits[clear], logits[clear])
    assert_close(fast(images.to(device)).cpu()[clear], logits[clear])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_with_float32(model, images, dtype, device):
    exact = dsm_ext.from_timm(model, "dsm")(images).argmax(1)
    half = dsm_ext.from_timm(model, "dsm", dtype=dtype, device=device)
    answers = half(images.to(device, dtype)).argmax(1).cpu()
    assert (exact == answers).float().mean() > 0.9


def test_tuning_beats_tome_on_pictures_that_did_not_choose(model, images):
    tuned = dsm_ext.tune(dsm_ext.from_timm(model), images[:40], speedup=1.7, minutes=0.25)
    rows = {row.name: row for row in tuned.rows}
    assert rows[tuned.name].speedup == pytest.approx(rows["ToMe"].speedup, rel=0.003)
    assert rows[tuned.name].judging_error < 0.6 * rows["ToMe"].judging_error


def test_classify_says_what_is_there(data, capsys):
    picture = data / "imagenet_samples" / "n01440764_tench.JPEG"
    weights = data / f"{NAME}.safetensors"
    assert main(["classify", NAME, "--weights", str(weights), str(picture)]) == 0
    first = capsys.readouterr().out.splitlines()[2]
    assert first.count("tench") >= 2  # for the dense and the merging model
