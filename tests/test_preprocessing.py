"""Preprocessing in C++ gives the tensors of timm's evaluation transform."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from tolerance import PIXEL_LEVELS, PIXEL_LEVELS_MEAN
from torchvision.transforms import functional as F

import dsm_ext
from dsm_ext.images import find_images, read_image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CASES = [
    {},
    {"interpolation": "bilinear"},
    {"crop_pct": 1.0},
    {"crop_pct": 1.2},  # the crop is larger than the picture and gets a black frame
    {"size": (256, 160)},
    {"size": (160, 256), "crop_pct": 1.0},
    {"size": (37, 37)},
    {"crop_mode": "squash", "crop_pct": 1.0},
    {"crop_mode": "squash", "size": (100, 50)},
    {"crop_mode": "border"},
    {"crop_mode": "border", "crop_pct": 1.0, "size": (130, 220)},
]


def picture(width, height):
    """A picture with smooth waves and sharp edges in three channels."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (7 + c) + y / (11 - c)) for c in range(3)]
    pixels = np.stack(waves, -1)
    pixels[height // 4 : height // 2, width // 3 :] = (250, 3, 128)
    return Image.fromarray(pixels.astype(np.uint8))


def both(image, case):
    """timm's tensor and ours, in levels from 0 to 255."""
    case = {"size": (224, 224), "interpolation": "bicubic", "crop_pct": 0.9} | case
    case = {"crop_mode": "center"} | case
    size = case.pop("size")
    transform = create_transform((3, *size), is_training=False, mean=MEAN, std=STD, **case)
    ours = dsm_ext.Preprocessing(size=size, mean=MEAN, std=STD, **case)
    levels = torch.tensor(STD)[:, None, None] * 255
    return transform(image) * levels, ours(torch.from_numpy(np.array(image))) * levels


@pytest.fixture
def rows_first(monkeypatch):
    """Make Pillow resize rows before columns; Pillow 13 may choose the other order."""
    resize = F.resize

    def in_two_steps(image, size, *args, **kwargs):
        width, height = resize(image, size, *args, **kwargs).size
        step = resize(image, [image.height, width], *args, **kwargs)
        return resize(step, [height, width], *args, **kwargs)

    monkeypatch.setattr(F, "resize", in_two_steps)


@pytest.mark.parametrize("sides", [(500, 375), (375, 500), (300, 300), (90, 61), (224, 224)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_timm_s(case, sides, rows_first):
    timm, ours = both(picture(*sides), case)
    assert ours.shape == timm.shape
    difference = (ours - timm).abs()
    assert difference.max() <= PIXEL_LEVELS
    assert difference.mean() <= PIXEL_LEVELS_MEAN


@pytest.mark.parametrize("case", CASES[:2] + CASES[7:8], ids=str)
def test_equals_timm_s_on_photographs(case, rows_first, data):
    for path in find_images(data)[::25]:
        timm, ours = both(read_image(path), case)
        difference = (ours - timm).abs()
        assert difference.max() <= PIXEL_LEVELS, path
        assert difference.mean() <= PIXEL_LEVELS_MEAN, path


def test_answers_are_those_of_timm_s_pictures(data):
    """The answers do not depend on the order in which Pillow resizes rows and columns."""
    model = dsm_ext.from_timm(
        "deit_tiny_patch16_224", "dsm", weights=data / "deit_tiny_patch16_224.safetensors"
    )
    answers = []
    for path in find_images(data)[::10]:
        pair = [p / 255 / torch.tensor(STD)[:, None, None] for p in both(read_image(path), {})]
        answers.append(model(torch.stack(pair)).argmax(1))
    agreement = torch.stack(answers)
    assert (agreement[:, 0] == agreement[:, 1]).float().mean() >= 0.98


def test_the_layout_does_not_matter():
    ours = dsm_ext.Preprocessing()
    pixels = torch.from_numpy(np.array(picture(120, 80)))
    planar = pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(ours(planar), ours(pixels))
    mirrored = pixels.flip(1)
    assert torch.equal(ours(mirrored.flip(1)), ours(pixels))


def test_other_channels():
    ours = dsm_ext.Preprocessing(size=(8, 8), mean=[0.5] * 5, std=[0.5] * 5)
    assert torch.equal(ours(torch.full((9, 20, 5), 255, dtype=torch.uint8)), torch.ones(5, 8, 8))


@pytest.mark.parametrize(
    "shape, dtype, error, message",
    [
        ((4, 4), torch.uint8, ValueError, r"\[height, width, channels\], got \[4, 4\]"),
        ((0, 4, 3), torch.uint8, ValueError, r"got \[0, 4, 3\]"),
        ((4, 4, 1), torch.uint8, ValueError, "a picture of 3 channels, got 1"),
        ((4, 4, 3), torch.float32, TypeError, "picture to be uint8, got Float"),
        ((1, 10_000, 3), torch.uint8, ValueError, "would be scaled to"),
    ],
)
def test_pictures_that_do_not_fit(shape, dtype, error, message):
    with pytest.raises(error, match=message):
        dsm_ext.Preprocessing()(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    "field, message",
    [
        ({"size": (0, 4)}, r"size to be in \[1, 65536\], got 0"),
        ({"crop_pct": 0.0}, "crop_pct to be in"),
        ({"crop_pct": float("nan")}, "crop_pct to be in"),
        ({"mean": [0.5]}, "got 1 and 3"),
        ({"mean": [], "std": []}, "got 0 and 0"),
        ({"mean": [0.5, 0.5, float("inf")]}, "mean to be finite"),
        ({"std": [1, 1, 0]}, "std to be positive"),
        ({"interpolation": "nearest"}, "Preprocessing: expected interpolation to be one of"),
        ({"crop_mode": "none"}, "Preprocessing: expected crop_mode to be one of"),
    ],
)
def test_fields_out_of_range(field, message):
    with pytest.raises(ValueError, match=message):
        dsm_ext.Preprocessing(**field)
