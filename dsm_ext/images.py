"""Pictures as a model's input: decoding, preprocessing, batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsm_ext.folders import find_images, label_images

__all__ = ["Batches", "find_images", "label_images", "read_image", "to_rgb", "transform_for"]

MOST_SIDE = 2**20  # pixels of a side after scaling, the same limit as Preprocessing in C++
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


def _reason(error: Exception) -> str:
    """The message of a decoder. Pillow's own would show the address of a file object."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known picture format"
    return str(error) or type(error).__name__


def transform_for(model: Any) -> Transform:
    """Make the preprocessing that a model's ``pretrained_cfg`` describes.

    Args:
        model: timm's or a ``dsm_ext.VisionTransformer``, also inside torch.compile or a data
            parallel wrapper. The crop has the model's own image size, whatever the config says.

    Raises:
        ValueError: the model takes neither 1 nor 3 channels, or has no ``pretrained_cfg`` with mean
            and std.
    """
    from timm.data import resolve_data_config

    from dsm_ext.model import VisionTransformer

    parts = getattr(model, "_modules", {})
    while wrapper := {"_orig_mod", "module"} & parts.keys():
        model = parts[wrapper.pop()]
        parts = model._modules
    if "patch_embed" not in parts:
        raise ValueError(
            "dsm_ext: expected a Vision Transformer of timm's or dsm_ext's, got a "
            f"{type(model).__name__}"
        )
    if not getattr(model, "pretrained_cfg", None):  # our own raises an error if it is unknown
        raise ValueError(
            f"dsm_ext: how pictures are prepared for this {type(model).__name__} is not known: it "
            "has no pretrained_cfg, which models have that timm.create_model makes by a name"
        )
    config = resolve_data_config({}, model=model)
    if isinstance(model, VisionTransformer):
        size, channels = model.config.img_size, model.config.in_chans
    else:
        size, channels = model.patch_embed.img_size, model.patch_embed.proj.in_channels
    if channels not in (1, 3):
        raise ValueError(
            f"dsm_ext: the model takes {channels} channels, pictures have 1 or 3: "
            "prepare its images yourself"
        )
    config["input_size"] = (channels, *size)
    if channels == 1:
        for name in ("mean", "std"):
            config[name] = (sum(config[name]) / len(config[name]),)
    return Transform(config)


class Transform:
    """Converts a PIL image to the model's input: float32 [channels, height, width] on the CPU.

    It applies ``to_rgb`` (then grey, for a model of one channel), timm's scaling and cropping, and
    the normalisation. It does not depend on torch's default dtype and device. It can be pickled.

    Args:
        config: the result of timm's ``resolve_data_config``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        from timm.data import create_transform

        self.config = config
        # With use_prefetcher timm's steps end with a conversion to a tensor and do not normalise.
        steps = create_transform(**config, is_training=False, use_prefetcher=True).transforms
        self._resize = steps[:-1]
        channels = config["input_size"][0]
        mean, std = (
            np.array(config[name], dtype=np.float32).reshape(-1, 1, 1) for name in ("mean", "std")
        )
        self._mode = "L" if channels == 1 else "RGB"
        self._mean, self._std = torch.from_numpy(mean), torch.from_numpy(std)

    def __call__(self, picture: Image.Image) -> Tensor:
        """
        Raises:
            TypeError, ValueError, OSError: as ``to_rgb``. ValueError also if one side is so much
                longer than the other that scaling would need too much memory.
        """
        rgb = to_rgb(picture)
        height, width = self.config["input_size"][1:]
        ratio = max(rgb.size) / min(rgb.size)
        side = ratio * max(height, width) / self.config["crop_pct"]
        if self.config["crop_mode"] == "center" and side > MOST_SIDE:  # other modes scale less
            raise ValueError(
                f"a picture of {rgb.width} x {rgb.height} has sides too unlike to be scaled to "
                f"{width} x {height}: cut it first"
            )
        image = rgb.convert(self._mode)
        for step in self._resize:
            image = step(image)
        pixels = torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1)
        return pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std).contiguous()


class Batches:
    """Batches of decoded, preprocessed pictures. Unreadable ones are named on stderr and skipped.

    Iterating yields (images [b, channels, h, w], the positions of these pictures in ``paths``).
    ``skipped`` lists the paths that the latest iteration skipped.
    """

    def __init__(
        self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor], batch: int
    ) -> None:
        self.paths, self.transform, self.batch = paths, transform, batch
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[Tensor, list[int]]]:
        self.skipped = []
        tensors: list[Tensor] = []
        positions: list[int] = []
        for position, path in enumerate(self.paths):
            try:
                tensors.append(self.transform(read_image(path)))
            except (ValueError, OSError) as error:
                where = "" if str(path) in str(error) else f"{path}: "
                print(f"skipped: {where}{error}", file=sys.stderr)
                self.skipped.append(str(path))
                continue
            positions.append(position)
            if len(tensors) == self.batch:
                yield torch.stack(tensors), positions
                tensors, positions = [], []
        if tensors:
            yield torch.stack(tensors), positions
