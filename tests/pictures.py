"""Pictures that tests make, and cameras that hold them turned."""

import numpy as np
from PIL import Image

T = Image.Transpose
# What a camera does to a picture before it writes the tag, so that the tag undoes it.
TAKEN = {
    1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE,
    6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270,
}  # fmt: skip


def colours(height=6, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def taken(picture, orientation):
    method = TAKEN.get(orientation)
    return picture if method is None else picture.transpose(method)


def tag(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif
