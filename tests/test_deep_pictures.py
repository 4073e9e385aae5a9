"""Pictures of more than 8 bits a channel become pictures of 8 bits with the same colours."""

import io
import struct

import numpy as np
import pytest
from pictures import equal, png16, reopened
from PIL import Image

from dsm_ext.images import to_rgb


@pytest.mark.parametrize("channels, kind", [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_png_of_16_bits(channels, kind):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    values[0, 0] = 65535
    colour = values[..., : 1 if channels < 3 else 3] >> 8
    expected = np.broadcast_to(colour, (5, 7, 3))
    assert equal(to_rgb(Image.open(png16(values, kind))), expected)


def test_8_bits_stored_as_16_come_back():
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for stored in (levels * 257, levels * 256):
        ours = to_rgb(Image.open(png16(stored[..., None], 0)))
        assert equal(ours, np.broadcast_to(levels[..., None], (16, 16, 3)))


@pytest.mark.parametrize("mode, dtype", [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2")])
def test_grey_of_16_bits(mode, dtype):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7), dtype=np.uint16)
    picture = Image.frombytes(mode, (7, 5), values.astype(dtype).tobytes())
    expected = np.broadcast_to(values[..., None] >> 8, (5, 7, 3))
    assert equal(to_rgb(picture), expected)
    if mode != "I;16L":
        assert equal(to_rgb(reopened(picture, "TIFF")), expected)
    wide = Image.fromarray(values.astype(np.int32))
    assert wide.mode == "I" and equal(to_rgb(wide), expected)


def tiff(values, bits, photometric, data):
    """A little-endian TIFF with one strip of grey pixels."""
    height, width = values.shape
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)),
    ]  # fmt: skip
    data = data + b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", number, kind, 1, v) for number, kind, v in tags)
    table = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return io.BytesIO(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table)


def test_tiff_of_other_scales():
    values = np.arange(0, 65536, 1365, dtype=np.uint16)[:48].reshape(6, 8)
    file = tiff(
        values, 16, 0, values.astype("<u2").tobytes()
    )  # photometric 0: the value 0 is white
    assert equal(to_rgb(Image.open(file)), np.repeat((65535 - values)[..., None] >> 8, 3, 2))

    values = np.arange(0, 4096, 85, dtype=np.uint16)[:48].reshape(6, 8)  # 12 bits a pixel
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    file = tiff(values, 12, 1, packed.tobytes())
    assert equal(to_rgb(Image.open(file)), np.repeat(values[..., None] >> 4, 3, 2))


def test_a_grey_map_of_16_bits():
    values = np.array([[0, 255, 256], [1023, 500, 4]], dtype=np.uint16)
    for top in (1023, 65535):
        data = b"P5 3 2 %d\n" % top + values.astype(">u2").tobytes()
        expected = np.round(values / top * 65535).astype(int)[..., None] >> 8
        assert equal(to_rgb(Image.open(io.BytesIO(data))), np.repeat(expected, 3, 2))


def test_dark_png_of_16_bits_is_dark():
    values = np.full((2, 3, 1), 200, dtype=np.uint16)
    assert equal(to_rgb(Image.open(png16(values, 0))), np.zeros((2, 3, 3), dtype=int))
