"""``Resizing`` gives the pixels of timm's transform for evaluation; large JPEGs decode smaller."""

import io
import subprocess
import sys

import numpy as np
import pytest
from pictures import TAKEN, colours, tag, taken
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from timm.data import create_transform

from dsm_ext_reader.decoding import decode, to_rgb
from dsm_ext_reader.resizing import INTERPOLATIONS, Resizing


def config(size=(3, 40, 40), crop_pct=0.9, crop_mode="center", interpolation="bicubic"):
    return {
        "input_size": size, "crop_pct": crop_pct, "crop_mode": crop_mode,
        "interpolation": interpolation, "mean": (0.3, 0.5, 0.7)[: size[0]],
        "std": (0.2,) * size[0],
    }  # fmt: skip


def encoded(picture, kind="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


SMOOTH = Image.fromarray(colours(12, 16)).resize((1600, 1200), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_pixels_equal_timms(crop_mode):
    numbers = np.random.default_rng(0)
    for case in range(120):
        channels = 1 if case % 5 == 0 else 3
        sides = (int(n) for n in numbers.integers(8, 60, 2))
        size = (40, 40) if case % 2 else tuple(sides)
        given = config(
            (channels, *size),
            crop_mode=crop_mode,
            crop_pct=float(numbers.choice([0.5, 0.875, 0.9, 0.95, 1.0])),
            interpolation=list(INTERPOLATIONS)[case % len(INTERPOLATIONS)],
        )
        height, width = (int(n) for n in numbers.integers(5, 130, 2))
        picture = Image.fromarray(colours(height, width, seed=case))
        steps = create_transform(**given, is_training=False, use_prefetcher=True)
        theirs = steps(picture.convert("L" if channels == 1 else "RGB"))
        ours = np.asarray(Resizing.of(given)(picture)).reshape(*size, channels)
        assert np.array_equal(ours.transpose(2, 0, 1), theirs), (given, height, width)


def test_unknown_interpolations_are_refused():
    with pytest.raises(ValueError, match="expected interpolation to be one of nearest, .*'random'"):
        Resizing.of(config(interpolation="random"))


def test_the_package_imports_no_torch():
    code = "import sys, dsm_ext_reader.decoding; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_small_jpegs_decode_as_always():
    resizing = Resizing.of(config())
    content = encoded(SMOOTH.resize((170, 128)))  # less than four times the 44 pixels of the scale
    straight = resizing(to_rgb(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode(content, resizing, None), np.asarray(straight))


@pytest.mark.parametrize("orientation", TAKEN)
@pytest.mark.parametrize("size", [(40, 40), (24, 60)])
def test_large_jpegs_decode_smaller_and_look_the_same(orientation, size, monkeypatch):
    smaller = JpegImageFile.draft
    sizes = []

    def seen(image, mode, wanted):
        result = smaller(image, mode, wanted)
        sizes.append((image.size, wanted))
        return result

    monkeypatch.setattr(JpegImageFile, "draft", seen)
    resizing = Resizing.of(config((3, *size)))
    content = encoded(taken(SMOOTH, orientation), exif=tag(orientation), quality=95)
    ours = decode(content, resizing, None).astype(int)
    ((kept, wanted),) = sizes
    assert all(k >= w for k, w in zip(kept, wanted, strict=True))
    assert max(kept) <= 800  # 1/2 of the sides or less
    whole = np.asarray(resizing(SMOOTH)).astype(int)
    assert np.abs(ours - whole).mean() < 1.5
    assert np.abs(ours - whole).max() < 16


def test_bombs_are_refused_before_decoding():
    content = encoded(Image.new("1", (3000, 3000)), "PNG")
    resizing = Resizing.of(config())
    assert decode(content, resizing, 9_000_000).shape == (40, 40, 3)
    with pytest.raises(ValueError, match="3000 x 3000 has 9000000 pixels, more than the limit of"):
        decode(content, resizing, 8_999_999)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"text", "no known picture format"), (None, "truncated")],
)
def test_what_cannot_be_decoded_is_said(content, message):
    content = encoded(SMOOTH)[:5000] if content is None else content
    with pytest.raises(ValueError, match=message):
        decode(content, Resizing.of(config()), None)


def test_pictures_of_every_kind_become_the_models_size(tmp_path):
    rgb = Image.fromarray(colours(60, 80))
    grey = rgb.convert("L")
    frames = [rgb.convert("P"), Image.new("P", rgb.size)]
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    kinds = [
        encoded(rgb.convert("CMYK"), quality=95), encoded(rgb.convert("P"), "PNG"),
        encoded(rgb.convert("RGBA"), "PNG"), encoded(deep, "PNG"), encoded(grey, "TIFF"),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encoded(rgb, "WEBP", save_all=True, append_images=[Image.new("RGB", rgb.size)]),
    ]  # fmt: skip
    for channels in (1, 3):
        resizing = Resizing.of(config((channels, 40, 40), crop_mode="squash"))
        expected = np.asarray(resizing(rgb)).reshape(40, 40, channels).astype(int)
        for content in kinds:
            ours = decode(content, resizing, None)
            assert ours.shape == (40, 40, channels) and ours.dtype == np.uint8
            assert abs(ours.astype(int).mean() - expected.mean()) < 12
