"""The arguments that ``visualize`` and the other drawing functions take, and the default grid."""

import numpy as np
import pytest
import torch
from PIL import Image

from dsm_ext.pictures import enlarge, filmstrip, sheet, to_image, visualize


@pytest.mark.parametrize(
    "size, count, grid",
    [
        ((112, 448), 196, (7, 28)),
        ((448, 112), 196, (28, 7)),
        ((24, 40), 15, (3, 5)),
        ((64, 16), 4, (4, 1)),
        ((224, 224), 196, (14, 14)),
        ((224, 224), 1, (1, 1)),
        ((10, 10), 9, (3, 3)),  # patches of 10 / 3 pixels are square too
        ((518, 518), 37 * 37, (37, 37)),
    ],
)
def test_without_a_grid_patches_are_square(size, count, grid):
    image, source = torch.rand(3, *size), torch.randint(9, (count,))
    picture = visualize(image, source)
    assert picture == visualize(image, source, grid)
    strip = filmstrip(image, [source, source], ["a", "b"])
    assert strip == filmstrip(image, [source, source], ["a", "b"], grid)


@pytest.mark.parametrize(
    "size, count", [((224, 224), 195), ((100, 90), 196), ((40, 24), 16), ((8, 8), 0), ((1, 9), 4)]
)
def test_without_a_grid_that_fits_one_is_asked_for(size, count):
    message = f"got {count} patches of an image of {size[0]} x {size[1]}: give grid"
    with pytest.raises(ValueError, match=message):
        visualize(torch.rand(3, *size), torch.zeros(count))
    with pytest.raises(ValueError, match=message):
        filmstrip(torch.rand(3, *size), [torch.zeros(count)], ["a"])


@pytest.mark.parametrize("grid", [(0, 4), (-2, -2), (4,), 4, (2.0, 2.0), (1, 2, 2), "22"])
def test_grids_that_are_none(grid):
    with pytest.raises(ValueError, match="visualize: expected grid to be two positive numbers"):
        visualize(torch.rand(3, 8, 8), torch.zeros(4), grid)
    with pytest.raises(ValueError, match="enlarge: expected grid to be two positive numbers"):
        enlarge(torch.rand(3, 8, 8), grid)


def test_pillows_images_are_taken():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    picture, tensor = Image.fromarray(pixels), torch.tensor(pixels).permute(2, 0, 1) / 255
    source = torch.arange(6)
    assert visualize(picture, source) == visualize(tensor, source)
    assert filmstrip(picture, [source], ["a"]) == filmstrip(tensor, [source], ["a"])
    assert torch.equal(enlarge(picture, (2, 3)), enlarge(tensor, (2, 3)))
    assert to_image(picture) == picture
    grey = picture.convert("L")
    assert visualize(grey, source) == visualize(grey.convert("RGB"), source)
    tensor.requires_grad_()
    assert to_image(tensor) == picture


@pytest.mark.parametrize("other", [np.zeros((8, 8, 3)), [[[0.0]]], None, "x.png"])
def test_other_images_are_refused(other):
    calls = {
        "visualize": lambda: visualize(other, torch.zeros(4)),
        "filmstrip": lambda: filmstrip(other, [torch.zeros(4)], ["a"]),
        "enlarge": lambda: enlarge(other, (2, 2)),
        "to_image": lambda: to_image(other),
    }
    for name, call in calls.items():
        message = rf"dsm_ext.{name}: expected image .* got {type(other).__name__}"
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(TypeError, match="expected a PIL image, got"):
        sheet([[other]], ["a"])
    with pytest.raises(TypeError, match="expected source to be a tensor, got"):
        visualize(torch.zeros(3, 8, 8), other)


@pytest.mark.parametrize(
    "image, error, message",
    [
        (torch.zeros(8, 8), ValueError, r"got \[8, 8\]"),
        (torch.zeros(1, 3, 8, 8), ValueError, r"got \[1, 3, 8, 8\]"),
        (torch.zeros(3, 0, 8), ValueError, r"got \[3, 0, 8\]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), TypeError, "divide bytes by 255"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "got NaN or infinity"),
    ],
)
def test_images_that_do_not_fit(image, error, message):
    for call in (
        lambda: visualize(image, torch.zeros(4)),
        lambda: filmstrip(image, [torch.zeros(4)], ["a"]),
        lambda: enlarge(image, (2, 2)),
        lambda: to_image(image),
    ):
        with pytest.raises(error, match=message):
            call()


def test_other_arguments_that_do_not_fit():
    image = torch.zeros(3, 8, 8)
    for outline in ("red", (1, 2), (1, 2, 256), (0.5, 0.5, 0.5)):
        with pytest.raises(ValueError, match="outline to be three numbers"):
            visualize(image, torch.zeros(4), outline=outline)
    with pytest.raises(ValueError, match="expected side to be positive, got 0"):
        enlarge(image, (2, 2), side=0)
    with pytest.raises(ValueError, match="expected tile to be positive, got 0"):
        sheet([[Image.new("RGB", (4, 4))]], ["a"], tile=0)
    with pytest.raises(ValueError, match=r"expected source to be \[4\].* got \[1, 4\]"):
        visualize(image, torch.zeros(1, 4), (2, 2))
