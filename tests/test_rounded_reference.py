"""bfloat16 and int8 on the CPU's fast path give what the reference gives that rounds likewise.

FLIPPED in tolerance.py says how much the two may differ, and why.
"""

import copy

import pytest
import torch
from features import FEATURES, build
from models import create, images_for
from rotary_features import ROTARY
from test_precision import LOW
from tolerance import FLIPPED, FLIPPED_MEAN, FLOAT32, assert_error_at_most_twice

import dsm_ext
from dsm_ext import reference
from dsm_ext.reference.precision import round_channels, round_rows

# Without bfloat16, attention in int8 would multiply float32, and the reference does not.
pytestmark = pytest.mark.skipif("bfloat16" not in LOW, reason="the processor has no bfloat16")
NAMES = [name for name in FEATURES if "block_fn" not in FEATURES[name]]


def feature(name, depth):
    """A model whose blocks do more than timm's initial weights of about 0.02 let them do."""
    model = build(name, depth=depth)
    if name in ROTARY:  # these are made so
        return model
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    return model


# Of the images, at least the share `same` merges the same tokens, and of their logits at least the
# share `equal` has no flipped quantum before it. Seen in int8: 1, 0.99, 0.86 and 0.89, 0.68, 0.40.
@pytest.mark.parametrize(
    "depth, schedule, same, equal",
    [(1, "dense", 1, 0.75), (2, "tome:r=20", 0.95, 0.5), (4, "dsm:r=16,skip=1,local=2", 0.75, 0.2)],
)
@pytest.mark.parametrize("precision", LOW)
def test_all_features(precision, depth, schedule, same, equal):
    clear, near, flipped, errors = [], [], [], []
    for name in NAMES:
        model = feature(name, depth)
        images = images_for(model, 4)
        fast = dsm_ext.from_timm(model, schedule, precision=precision)
        expected, source, size, _ = reference.trace(
            model, images, fast.schedule, precision=precision
        )
        exact, exact_source, *_ = reference.trace(model, images, fast.schedule)
        trace = fast.trace(images)
        alike = (trace.source == source).all(1)
        clear.append(alike)
        assert torch.equal(trace.size[alike], size[alike])
        scale = expected.abs().max()
        difference = ((trace.logits - expected).abs() / scale)[alike]
        worst = difference.max().item() if alike.any() else 0.0
        assert worst <= FLIPPED[precision], f"{name}: off by {worst:.1e} of the scale"
        near.append((difference <= FLOAT32).flatten())
        unmoved = alike & (exact_source == source).all(1)
        flipped.append((trace.logits - expected)[unmoved].abs().flatten() / scale)
        errors.append((expected - exact)[unmoved].abs().flatten() / scale)
    assert torch.cat(clear).float().mean() >= same
    assert torch.cat(near).float().mean() >= equal
    ratio = (torch.cat(flipped).mean() / torch.cat(errors).mean()).item()
    assert ratio <= FLIPPED_MEAN[depth], f"differences are {ratio:.2f} of the rounding errors"


@pytest.mark.parametrize("precision", LOW)
def test_a_deep_model_differs_as_two_references_do(precision):
    model = create("vit_tiny_patch16_224", num_classes=100, img_size=112)
    images = images_for(model, 8)
    fast = dsm_ext.from_timm(model, "dense", precision=precision)
    first = reference.forward(model, images, fast.schedule, precision=precision)
    exact = copy.deepcopy(model).double()
    second = reference.forward(exact, images.double(), fast.schedule, precision=precision)
    assert_error_at_most_twice(fast(images), first, second)


def test_merging_in_bfloat16_is_as_exact_as_eager():
    model = create("vit_tiny_patch16_224", depth=6, img_size=160)
    images = images_for(model, 16)
    fast = dsm_ext.from_timm(model, "dsm:r=8", precision="bfloat16")
    actual = fast(images)
    exact = reference.forward(copy.deepcopy(model).double(), images.double(), fast.schedule)
    eager = reference.forward(model.bfloat16(), images.bfloat16(), fast.schedule)
    assert_error_at_most_twice(actual, eager, exact)


@pytest.mark.parametrize("precision", LOW)
def test_tokens_of_every_block(precision):
    model = feature("LayerScale", 4)
    images = images_for(model, 4)
    fast = dsm_ext.from_timm(model, "dense", precision=precision)
    found = fast.forward_intermediates(images, range(4))
    expected = reference.forward_intermediates(
        model, images, fast.schedule, range(4), precision=precision
    )
    for block, (tokens, _, _) in zip(found, expected, strict=True):
        difference = (block.tokens - tokens).abs() / tokens.abs().max()
        assert difference.max() <= FLIPPED[precision]
        assert (difference <= FLOAT32).float().mean() >= 0.3
    features = reference.forward_features(model, images, fast.schedule, precision=precision)
    difference = (fast.forward_features(images) - features).abs() / features.abs().max()
    assert difference.max() <= FLIPPED[precision]


def test_rows_are_rounded_to_the_nearest_step():
    for x in (torch.randn(9, 64), torch.rand(9, 64), -torch.rand(9, 64), 1e-20 * torch.rand(9, 1)):
        whole, step = round_rows(x)
        assert (whole == whole.round()).all()
        assert (whole.amax(1) - whole.amin(1) <= 255).all()
        # The zero point is rounded, too, so that an end of the row may be off by a whole step.
        assert ((whole * step - x).abs() <= 1.001 * step).all()
        assert ((whole * step - x).abs() <= 0.501 * step).float().mean() >= 0.98
    whole, scale = round_channels(torch.randn(9, 64))
    assert (whole.abs().amax(1) == 127).all()


def test_rows_that_cannot_be_rounded():
    x = torch.tensor([[0, 0], [1e-40, 0], [1, torch.inf], [torch.nan, 1], [-1, 3]])
    for rounded in (round_rows, round_channels):
        whole, step = rounded(x)
        assert (whole[:4] == 0).all()
        assert step[:2].tolist() == [[0], [0]]
        assert step[2:4].isnan().all()
        assert whole[4].abs().max() > 0 and step[4] > 0


def test_a_precision_that_the_reference_does_not_know():
    model = feature("LayerScale", 1)
    with pytest.raises(ValueError, match="expected precision to be float32, bfloat16 or int8"):
        reference.forward(model, images_for(model, 1), [()], precision="int4")
