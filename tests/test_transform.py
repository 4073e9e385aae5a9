"""``transform_for`` makes the tensor of timm's transform, from a picture turned by its tag."""

import copy
import pickle

import pytest
import torch
from models import prepared
from pictures import colours, tag, taken
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

import dsm_ext
from dsm_ext.images import find_images, read_image, transform_for


def test_models_of_other_channels():
    pixels = colours(40, 60)
    model = prepared(in_chans=1)
    grey = transform_for(model)(Image.fromarray(pixels))
    assert grey.shape == (1, *model.patch_embed.img_size)
    three = transform_for(prepared())(Image.fromarray(pixels).convert("L"))
    mean, std = (torch.tensor(v) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    levels = three * std[:, None, None] + mean[:, None, None]
    assert torch.allclose(grey[0], (levels[0] - mean.mean()) / std.mean(), atol=1e-5)
    with pytest.raises(ValueError, match="takes 5 channels, pictures have 1 or 3"):
        transform_for(prepared(in_chans=5))


def test_our_models_are_taken_too():
    timm_model = prepared(img_size=(24, 40), patch_size=8)
    timm_model.pretrained_cfg = {
        "input_size": (3, 9, 9), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7),
        "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear",
    }  # fmt: skip
    ours = dsm_ext.from_timm(timm_model, "dense")
    picture = Image.fromarray(colours(40, 60))
    image = transform_for(ours)(picture)
    assert image.shape == (3, 24, 40)
    assert torch.equal(image, transform_for(timm_model)(picture))
    line = Image.new("RGB", (1, 40_000))  # squashing it takes no more memory than another picture
    assert transform_for(ours)(line).shape == (3, 24, 40)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_prepared_as_timm_does(mode, interpolation, channels):
    from timm.data import create_transform

    model = prepared(in_chans=channels)
    model.pretrained_cfg |= {
        "crop_mode": mode, "interpolation": interpolation, "crop_pct": 0.9,
        "mean": (0.3,) * channels, "std": (0.2,) * channels,
    }  # fmt: skip
    own = transform_for(dsm_ext.from_timm(model, "dense"))
    theirs = create_transform(**own.config, is_training=False)
    for size in ((70, 90), (40, 33), (56, 56)):
        picture = Image.fromarray(colours(*size)).convert("L" if channels == 1 else "RGB")
        assert torch.equal(own(picture), theirs(picture))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16])
def test_torchs_defaults_change_no_picture(default):
    transform = transform_for(prepared())
    picture = Image.fromarray(colours(70, 90))
    expected = transform(picture)
    torch.set_default_dtype(default)
    torch.set_default_device("meta")
    try:
        again = transform_for(prepared_on_the_cpu())(picture)
        same = transform(picture)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(same, expected)
    assert torch.equal(again, expected)


def prepared_on_the_cpu():
    with torch.device("cpu"):
        return prepared()


def test_a_transform_can_be_sent_to_other_processes():
    transform = transform_for(prepared())
    picture = Image.fromarray(colours(70, 90))
    for twin in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)):
        assert torch.equal(twin(picture), transform(picture))


def test_wrapped_models_are_looked_into():
    from timm import create_model

    model = prepared()
    picture = Image.fromarray(colours(70, 90))
    expected = transform_for(model)(picture)
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model)):
        assert torch.equal(transform_for(wrapped)(picture), expected)
    with pytest.raises(ValueError, match="a Vision Transformer of timm's or dsm_ext's, got a Res"):
        transform_for(create_model("resnet10t"))


def test_turned_photographs_have_the_answers_of_straight_ones(data, tmp_path):
    """The test turns the pixels without loss, and writes the tag that turns them back."""
    from timm import create_model

    timm_model = create_model("deit_tiny_patch16_224")
    model = dsm_ext.from_timm(
        "deit_tiny_patch16_224", "dsm", weights=data / "deit_tiny_patch16_224.safetensors"
    )
    transform = transform_for(timm_model)
    changed = []
    for i, path in enumerate(find_images(data)[::10]):
        orientation = 2 + i % 7
        straight = read_image(path)
        file = tmp_path / "turned.png"
        taken(straight, orientation).save(file, exif=tag(orientation), compress_level=1)
        pair = torch.stack([transform(straight), transform(read_image(file))])
        answers = model(pair).argmax(1)
        if answers[0] != answers[1] or not torch.equal(pair[0], pair[1]):
            changed.append(path)
    assert changed == []
