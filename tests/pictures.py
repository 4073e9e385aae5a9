"""Pictures that tests make, among them pictures that a camera has turned."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

T = Image.Transpose
# For each value of the orientation tag: what the camera did to the picture. A viewer undoes it.
TAKEN = {
    1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE,
    6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270,
}  # fmt: skip


def colours(height=6, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def picture_folder(folder, count):
    """A new folder with ``count`` pictures of random colours."""
    folder.mkdir()
    for i in range(count):
        Image.fromarray(colours(60, 70, seed=i)).save(folder / f"{i}.png")
    return folder


def taken(picture, orientation):
    method = TAKEN.get(orientation)
    return picture if method is None else picture.transpose(method)


def tag(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def reopened(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file)


def equal(picture, pixels, within=0):
    ours = np.asarray(picture).astype(int)
    return ours.shape == pixels.shape and np.abs(ours - pixels).max() <= within


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png16(values, kind):
    """A PNG of 16 bits from uint16 [height, width, channels], which Pillow cannot write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + content)
