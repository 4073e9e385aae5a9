"""Picture files are decoded as a viewer shows them, or refused by a message that names the file."""

import numpy as np
import pytest
import torch
from models import prepared
from pictures import colours, equal, png16, reopened, tag, taken
from PIL import Image

from dsm_ext.images import Batches, find_images, read_image, to_rgb, transform_for


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind, options",
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (3, 4))]}),
    ],
)
def test_pictures_are_turned_by_their_tag(kind, options, orientation, tmp_path):
    pixels = colours()
    path = tmp_path / "x"
    taken(Image.fromarray(pixels), orientation).save(path, kind, exif=tag(orientation), **options)
    once = read_image(path)
    assert once.mode == "RGB" and equal(once, pixels)
    assert equal(to_rgb(once), pixels)  # the tag is gone
    with Image.open(path) as image:
        assert equal(to_rgb(image.convert("RGB")), pixels)
    with Image.open(path) as image:
        assert equal(to_rgb(image), pixels)
        assert equal(to_rgb(image), pixels)  # a second call gives the same


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpeg_is_turned_by_its_tag(orientation, mode):
    ramp = np.linspace(0, 255, 16 * 24).reshape(16, 24).astype(np.uint8)
    picture = Image.fromarray(ramp).convert(mode)
    image = reopened(taken(picture, orientation), "JPEG", quality=100, exif=tag(orientation))
    assert equal(to_rgb(image), np.asarray(picture.convert("RGB")), within=10)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "LA", "RGBA"])
def test_every_mode_is_turned(mode):
    pixels = colours()
    picture = Image.fromarray(pixels)
    picture = (
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else picture.convert(mode)
    )
    straight = np.asarray(to_rgb(picture))
    # Pillow 10.1 cannot turn pictures of 16 bits.
    turned = np.ascontiguousarray(np.rot90(np.asarray(picture)))
    camera = Image.fromarray(turned) if mode == "I;16" else taken(picture, 6)
    assert equal(to_rgb(reopened(camera, "PNG", exif=tag(6))), straight)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_other_orientations_are_ignored(value):
    pixels = colours()
    assert equal(to_rgb(reopened(Image.fromarray(pixels), "PNG", exif=tag(value))), pixels)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0garbage, not tags at all",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",  # text
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken tags
def test_broken_tags_do_not_cost_the_picture(exif):
    pixels = colours()
    assert equal(to_rgb(reopened(Image.fromarray(pixels), "PNG", exif=exif[6:])), pixels)
    image = reopened(Image.new("RGB", (8, 4), (9, 9, 9)), "JPEG", exif=exif)
    assert to_rgb(image).size == (8, 4)


@pytest.mark.parametrize(
    "picture, message",
    [
        (Image.new("F", (4, 3), 0.5), "mode F have no certain meaning"),
        (Image.new("LAB", (4, 3)), "mode LAB have no certain meaning"),
        (Image.new("I", (4, 3), 65536), "mode I from 65536 to 65536 have no certain scale"),
        (Image.new("I", (4, 3), -1), "mode I from -1 to -1"),
        (Image.new("I", (4, 3), 200), "mode I from 200 to 200"),
        (Image.new("RGB", (0, 3)), "no pixels: 0 x 3"),
        (Image.new("L", (3, 0)), "no pixels: 3 x 0"),
    ],
)
def test_pictures_without_certain_colours_are_refused(picture, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_rgb(picture)
    if picture.mode in ("F", "I", "LAB") and 0 not in picture.size:
        picture.save(tmp_path / "x.tif")
        with pytest.raises(ValueError, match=f"x.tif cannot be decoded: .*mode {picture.mode}"):
            read_image(tmp_path / "x.tif")


def test_floats_saved_as_tiff_are_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((5, 7), dtype=np.float32)).save(
        tmp_path / "x.tiff"
    )
    with pytest.raises(ValueError, match=r"x.tiff cannot be decoded: pixels of mode F"):
        read_image(tmp_path / "x.tiff")


def test_transparent_pixels_show_the_colour_in_the_file():
    """timm and torchvision do so too."""
    pixels = colours(channels=4)
    picture = Image.fromarray(pixels)
    assert equal(to_rgb(picture), pixels[..., :3])
    grey = Image.fromarray(pixels[..., :2].copy())
    assert grey.mode == "LA" and equal(to_rgb(grey), np.repeat(pixels[..., :1], 3, 2))
    palette = reopened(picture.quantize(20), "PNG")
    assert palette.mode == "P" and isinstance(palette.info["transparency"], bytes)
    table = np.array(palette.getpalette()).reshape(-1, 3)
    assert equal(to_rgb(palette), table[np.asarray(palette)])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind, tmp_path):
    frames = [Image.new("RGB", (8, 6), c) for c in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "x", kind, save_all=True, append_images=frames[1:], **options)
    assert equal(read_image(tmp_path / "x"), np.array([[[255, 0, 0]] * 8] * 6))


@pytest.mark.parametrize("other", [None, np.zeros((4, 4, 3), dtype=np.uint8), "x.png", b"x"])
def test_other_things_than_pictures(other):
    with pytest.raises(TypeError, match=r"to_rgb: expected a PIL image, got"):
        to_rgb(other)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_files_cut_short_are_named(kind, tmp_path):
    picture = Image.fromarray(colours(64, 64))
    path = tmp_path / "whole"
    picture.save(path, kind)
    content = path.read_bytes()
    for length in (0, 1, 5, len(content) // 3, len(content) // 2):
        path = tmp_path / f"cut {length}"
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"cut {length} cannot be decoded: "):
            read_image(path)


def test_pictures_of_many_pixels_are_named(tmp_path, monkeypatch):
    Image.new("1", (1000, 1000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    with pytest.raises(ValueError, match=r"bomb.png cannot be decoded: .*1000000 pixels"):
        read_image(tmp_path / "bomb.png")


def test_no_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such picture: .*none.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError, match=r"cannot be read: Is a directory"):
        read_image(tmp_path)
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"x.png cannot be decoded: no known picture format$"):
        read_image(tmp_path / "x.png")


def test_one_picture_does_not_end_a_run(tmp_path, monkeypatch, capsys):
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.new("RGB", (40, 30)).save(path)
    paths[0].write_bytes(b"broken")
    Image.new("1", (60_000, 1)).save(paths[1])
    batches = Batches(paths, transform_for(prepared()), 2)
    paths[3].unlink()
    paths[4].unlink()
    paths[4].mkdir()

    def forbidden(path, *arguments):
        if str(path).endswith("5.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments)

    monkeypatch.setitem(read_image.__globals__, "open", forbidden)
    for _ in range(2):
        assert [positions for _, positions in batches] == [[2, 6]]
        assert batches.skipped == [str(paths[i]) for i in (0, 1, 3, 4, 5)]
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 5
        for line, text in zip(
            said, ["cannot be decoded", "too unlike", "no such", "Is a dir", "Permission"],
            strict=True,
        ):  # fmt: skip
            assert line.startswith("skipped: ") and text in line
        assert all(line.count(path) == 1 for line, path in zip(said, batches.skipped, strict=True))


def test_whoever_hands_pictures_over_has_them_turned():
    transform = transform_for(prepared())
    pixels = colours(40, 60)
    expected = transform(Image.fromarray(pixels))
    turned = reopened(taken(Image.fromarray(pixels), 6), "PNG", exif=tag(6))
    assert torch.equal(transform(turned), expected)
    grey = pixels[..., 0]
    deep = Image.open(png16(grey[..., None].astype(np.uint16) * 257, 0))
    assert torch.equal(transform(deep), transform(Image.fromarray(grey)))


def test_a_link_that_leads_nowhere_is_named(tmp_path, capsys):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    batches = Batches(find_images(tmp_path), transform_for(prepared()), 4)
    assert [positions for _, positions in batches] == [[1]]
    assert "no such picture" in capsys.readouterr().err
