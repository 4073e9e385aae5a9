"""Pictures in the columns of a batch: finding the column, and decoding its cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from dsm_ext.error_text import described, listed
from dsm_ext_reader.decoding import decode, to_rgb
from dsm_ext_reader.resizing import Resizing

COLUMNS = ("bytes", "image")  # as Ray's read_binary_files and read_images call them
PIXELS = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32), np.dtype(np.bool_))


def image_column(batch: Mapping[str, Any], name: str | None, added: Iterable[str]) -> str:
    """The name of the column that holds the pictures.

    Args:
        name: None takes the first of ``COLUMNS`` that is there.
        added: columns that the caller adds to the batch.

    Raises:
        ValueError: no such column; or a column that is added exists already.
    """
    found = next((n for n in ((name,) if name else COLUMNS) if n in batch), None)
    if found is None:
        raise ValueError(
            f"dsm_ext.Predictor: expected a column {' or '.join((name,) if name else COLUMNS)} "
            f"with pictures, got {listed(batch) or 'no columns'}"
        )
    for column in added:
        if column in batch and column != found:
            raise ValueError(
                f"dsm_ext.Predictor: expected a batch without the column {column}, which the "
                "predictor adds: rename it"
            )
    return found


def prepare(
    cells: np.ndarray, resizing: Resizing, max_pixels: int | None, threads: int
) -> tuple[np.ndarray, list[str]]:
    """Decode the pictures of a column to the model's size.

    Args:
        cells: encoded pictures (bytes, or dicts with ``bytes`` as Hugging Face's data sets have
            them), None, or pixels [h, w] or [h, w, c] of any size with c = 1 (grey), 2 (grey and
            alpha), 3 (RGB) or 4 (RGB and alpha): uint8, uint16 or int32 on a 16-bit scale, or bool.
            Encoded pictures and pixels of different sizes are in an array of objects.
        threads: how many threads decode.

    Returns:
        The pixels, uint8 [b, height, width, channels], and for each picture why it cannot be used,
        or "". The pixels of pictures that cannot be used are 0.

    Raises:
        TypeError: a cell is something else.
    """
    shape = (resizing.height, resizing.width, resizing.channels)
    pixels = np.zeros((len(cells), *shape), np.uint8)

    def one(row: int) -> str:
        try:
            pixels[row] = _pixels(cells[row], resizing, max_pixels)
        except (ValueError, OSError) as error:
            return str(error) or type(error).__name__
        return ""

    if threads > 1 and len(cells) > 1:  # Pillow releases the GIL while it decodes and scales
        with ThreadPoolExecutor(min(threads, len(cells))) as pool:
            return pixels, list(pool.map(one, range(len(cells))))
    return pixels, [one(row) for row in range(len(cells))]


def _pixels(cell: Any, resizing: Resizing, max_pixels: int | None) -> np.ndarray:
    if isinstance(cell, dict) and "bytes" in cell:
        cell = cell["bytes"]
    if cell is None:
        raise ValueError("there is no picture")
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return decode(bytes(cell), resizing, max_pixels)
    if not isinstance(cell, np.ndarray) or cell.dtype not in PIXELS:
        got = f"{cell.dtype}" if isinstance(cell, np.ndarray) else described(cell)
        raise TypeError(
            "dsm_ext.Predictor: expected pictures as encoded bytes, or as pixels of uint8, got "
            f"{got}"
        )
    image = resizing(to_rgb(_image(cell)))
    return np.asarray(image).reshape(resizing.height, resizing.width, resizing.channels)


def _image(values: np.ndarray) -> Image.Image:
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or not 1 <= channels <= 4:
        raise ValueError(
            f"expected pixels [height, width] or [height, width, 1 to 4], got {list(values.shape)}"
        )
    if 0 in values.shape:
        raise ValueError(f"the picture has no pixels: {values.shape[1]} x {values.shape[0]}")
    if values.dtype == np.bool_:
        values = values * np.uint8(255)
    elif values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)  # the upper 8 bits, as ``to_rgb`` takes them
    if values.dtype == np.int32 and channels > 1:
        raise ValueError(f"expected int32 pixels to be grey, got {channels} channels")
    return Image.fromarray(values[..., 0] if channels == 1 and values.ndim == 3 else values)
