"""The dots that ``visualize`` draws at the locations of merged tokens."""

import numpy as np
import pytest
import torch
from models import images_for, small

import dsm_ext
from dsm_ext.pictures import visualize

RED = (230, 30, 30)
SOURCE = torch.tensor([0, 0, 1, 2, 2, 2])  # 2 x 3 patches
LOCATION = torch.tensor([[0.5, 1.0], [0.5, 2.5], [1.5, 1.5]])


def red(picture):
    return (np.asarray(picture) == RED).all(-1)


def test_a_dot_marks_each_token_that_holds_several_patches():
    plain = visualize(torch.zeros(3, 64, 96), SOURCE, (2, 3))
    marked = visualize(torch.zeros(3, 64, 96), SOURCE, (2, 3), location=LOCATION)
    assert not red(plain).any()
    dots = red(marked)
    assert dots[16, 32] and dots[48, 48]  # rows and columns in pixels
    assert not dots[:, 64:].any()  # a single patch has no dot


def test_a_trace_gives_the_locations():
    model = small()
    fast = dsm_ext.from_timm(model, "dsm:r=16,skip=1,local=2,window=7")
    trace = fast.trace(images_for(model, 1))
    image = torch.zeros(3, 224, 224)
    assert red(visualize(image, trace.source[0], location=trace.location[0])).any()


@pytest.mark.parametrize(
    "location",
    [LOCATION[:2], LOCATION[0], torch.zeros(3, 3), 7],
    ids=["too few", "one row", "three columns", "a number"],
)
def test_locations_of_another_size_are_named(location):
    with pytest.raises(ValueError, match=r"expected location to be \[3 or more tokens, 2\], got"):
        visualize(torch.zeros(3, 64, 96), SOURCE, (2, 3), location=location)


@pytest.mark.parametrize("place", [[0.5, 3.5], [-1.0, 1.0], [float("nan"), 1.0]])
def test_locations_outside_the_grid_are_named(place):
    location = LOCATION.clone()
    location[0] = torch.tensor(place)
    with pytest.raises(ValueError, match="inside the grid of 2 x 3 patches"):
        visualize(torch.zeros(3, 64, 96), SOURCE, (2, 3), location=location)
