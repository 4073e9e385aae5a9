"""Decoding pictures to 8-bit RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from dsm_ext_reader.resizing import Resizing

ORIENTATION, BITS, PHOTOMETRIC, WHITE_IS_ZERO = 274, 258, 262, 0  # tags of EXIF and TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow converts these modes to RGB as all viewers do. It ignores the colour profile of CMYK, as
# timm and torchvision do.
SURE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
SIXTEEN_BIT_FILES = {"PNG", "PPM", "JPEG2000"}  # in these, Pillow's mode I has 16-bit values


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture to 8-bit RGB and rotate it by its orientation tag, as viewers show it.

    Pillow finds the EXIF tag in JPEG, PNG, WebP, TIFF and XMP. Values other than 1 to 8 are
    ignored. The result has no tag, so that it is not rotated twice. 16-bit values keep their upper
    8 bits. Transparency is dropped, as in timm and torchvision: pixels keep the colour in the file.
    Of an animation, the current frame is used.

    Args:
        image: a picture that Pillow opened or made. It is loaded but not changed.

    Returns:
        A new picture of mode RGB.

    Raises:
        TypeError: not a PIL image.
        ValueError: the picture has no pixels, or its mode has no certain colours: F, LAB, or I with
            values that are not on a 16-bit scale.
        OSError: Pillow cannot decode it.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"dsm_ext.to_rgb: expected a PIL image, got {type(image).__name__}; "
            "PIL.Image.fromarray makes one of an array"
        )
    if 0 in image.size:
        raise ValueError(f"the picture has no pixels: {image.width} x {image.height}")
    image.load()  # before reading tags: Pillow rotates TIFF here, and PNG may end with its tags
    turn = TURNS.get(_orientation(image))
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(_upper_bits(image))
    elif image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # avoids Pillow's warning about dropped transparency
    elif image.mode not in SURE_MODES:
        raise ValueError(
            f"pixels of mode {image.mode} have no certain meaning as colours: "
            "convert the picture to 8 bits, grey or RGB"
        )
    rgb = image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> Any:
    """The value of the orientation tag. 1 if the tags are broken, so the picture stays usable."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many types for broken tags
        return 1


def _upper_bits(image: Image.Image) -> np.ndarray:
    """The upper 8 of 16 bits of a grey picture, [height, width], as Pillow does with colours."""
    values = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", {})
    bits = 16
    if image.mode == "I":
        low, high = int(values.min()), int(values.max())
        known = image.format in SIXTEEN_BIT_FILES
        if low < 0 or high > 0xFFFF or (0 < high <= 0xFF and not known):
            raise ValueError(
                f"pixels of mode I from {low} to {high} have no certain scale: expected 16 bits, "
                "0 to 65535; convert the picture to 8 bits, grey or RGB"
            )
    elif tags:
        bits = tags.get(BITS, (16,))[0]  # a 12-bit TIFF has values up to 4095
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts only 1-bit and 8-bit pictures
            values = (1 << bits) - 1 - values
    return (values >> (bits - 8)).clip(0, 255).astype(np.uint8)


def read_image(path: str | Path) -> Image.Image:
    """Decode a file to a picture as ``to_rgb`` describes. Of an animation, the first frame.

    Raises:
        TypeError: not a path.
        ValueError: the picture cannot be decoded, is cut short, is larger than Pillow's limit
            (``PIL.Image.MAX_IMAGE_PIXELS``), or has no certain colours. The message names it.
        FileNotFoundError, PermissionError, other OSError: the file cannot be opened. The message
            names it.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"dsm_ext: expected the path of a picture, got {type(path).__name__}")
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            return to_rgb(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"dsm_ext: no such picture: {path}") from None
    except Exception as error:  # PIL's decoders raise many types, even SyntaxError
        if isinstance(error, OSError) and error.errno is not None:  # from the file system
            raise type(error)(f"dsm_ext: {path} cannot be read: {error.strerror}") from None
        raise ValueError(f"dsm_ext: {path} cannot be decoded: {_reason(error)}") from error


def decode(content: bytes | BinaryIO, resizing: Resizing, max_pixels: int | None) -> np.ndarray:
    """Decode an encoded picture to a model's size.

    A JPEG whose sides are several times larger than needed is decoded at 1/2, 1/4 or 1/8 of its
    size, which saves most of its decoding time. Its sides then stay at least twice as long as those
    to which the picture is scaled, so that the scaling still averages over several pixels.

    Args:
        content: the content of a file, or an open file.
        max_pixels: larger pictures are refused before they are decoded. None: no limit.

    Returns:
        uint8 [height, width, channels], the size that ``resizing`` names.

    Raises:
        ValueError: the picture cannot be decoded or is too large; or as ``to_rgb`` and
            ``Resizing``.
    """
    if not isinstance(content, (bytes, bytearray, memoryview)):
        file = content
    elif len(content):
        file = io.BytesIO(content)
    else:
        raise ValueError("the file is empty")
    try:
        with Image.open(file) as image:
            pixels = image.width * image.height
            if max_pixels is not None and pixels > max_pixels:
                raise ValueError(
                    f"a picture of {image.width} x {image.height} has {pixels} pixels, more than "
                    f"the limit of {max_pixels}"
                )
            _reduce(image, resizing)
            resized = resizing(to_rgb(image))
    except Exception as error:  # Pillow's decoders raise many types, even SyntaxError
        raise ValueError(_reason(error)) from error
    return np.asarray(resized).reshape(resizing.height, resizing.width, resizing.channels)


def _reduce(image: Image.Image, resizing: Resizing) -> None:
    """Let libjpeg decode at a lower resolution, where at least twice the needed one remains."""
    if image.format not in ("JPEG", "MPO"):
        return
    # The orientation tag may exchange the sides: enough pixels must remain in both cases.
    height, width = resizing.scaled(image.height, image.width)
    turned_width, turned_height = resizing.scaled(image.width, image.height)
    image.draft(None, (2 * max(width, turned_width), 2 * max(height, turned_height)))


def _reason(error: Exception) -> str:
    """The message of a decoder. Pillow's own would show the address of a file object."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known picture format"
    return str(error) or type(error).__name__
