"""Folders of damaged and odd pictures."""

import io
import os
import random

import numpy as np
from pictures import png16, tag
from PIL import Image

KINDS = {
    "jpg": {"quality": 80}, "jpeg": {"progressive": True}, "png": {}, "gif": {}, "bmp": {},
    "webp": {"quality": 80}, "tif": {"compression": "tiff_lzw"}, "tga": {}, "ppm": {}, "jp2": {},
}  # fmt: skip
FORMATS = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}


def colours(seed=0, size=(48, 40)):
    """A picture of soft colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, FORMATS.get(kind, kind.upper()), **options)
    return file.getvalue()


def write_damaged(folder, count):
    """Write files that are cut short, have wrong bits, or are no pictures at all."""
    choose = random.Random(0)
    contents = {kind: encoded(colours(), kind, **options) for kind, options in KINDS.items()}
    folder.mkdir()
    for i in range(count):
        kind = choose.choice(list(KINDS))
        content = bytearray(contents[kind])
        damage = i % 10
        if damage < 3:
            name, content = "cut", content[: choose.randrange(len(content))]
        elif damage < 7:
            name = "bits"
            for _ in range(choose.randint(1, 8)):  # half of them where the header is
                end = len(content) if choose.random() < 0.5 else min(64, len(content))
                content[choose.randrange(end)] ^= 1 << choose.randrange(8)
        elif damage == 7:
            name, kind = "renamed", choose.choice(list(KINDS))
        elif damage == 8:
            name, content = "empty", content[:0]
        else:
            name, content = "noise", choose.randbytes(choose.randint(1, 2000))
        (folder / f"{i:04} {name}.{kind}").write_bytes(content)


def write_odd(folder):
    """Write pictures in rare forms.

    Returns:
        By file name: a usual picture with the same pixels, or the start of the error.
    """
    folder.mkdir()
    rgb = colours()
    alpha = rgb.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    palette = rgb.quantize(60)
    deep = np.random.default_rng(0).integers(0, 1 << 16, (40, 48, 3), dtype=np.uint16)
    frames = [colours(seed) for seed in (1, 2)]
    arithmetic = encoded(rgb, "jpg").replace(b"\xff\xc0", b"\xff\xc9", 1)
    odd = {
        "cmyk.tif": (encoded(rgb.convert("CMYK"), "tif"), rgb.convert("CMYK").convert("RGB")),
        "palette.png": (encoded(palette, "png", transparency=3), palette.convert("RGB")),
        "deep.png": (png16(deep, 2).read(), Image.fromarray((deep >> 8).astype(np.uint8))),
        "alpha.png": (encoded(alpha, "png"), rgb),
        "alpha.webp": (encoded(alpha, "webp", lossless=True, exact=True), rgb),
        "grey.png": (encoded(rgb.convert("L"), "png"), rgb.convert("L").convert("RGB")),
        "film.png": (encoded(rgb, "png", save_all=True, append_images=frames), rgb),
        "film.webp": (
            encoded(rgb, "webp", save_all=True, append_images=frames, lossless=True), rgb,
        ),
        "pages.tif": (encoded(rgb, "tif", save_all=True, append_images=frames), rgb),
        "turned.png": (
            encoded(rgb.transpose(Image.Transpose.ROTATE_90), "png", exif=tag(6)), rgb,
        ),
        "profile.png": (encoded(rgb, "png", icc_profile=b"no profile"), rgb),
        "dot.png": (encoded(colours(size=(1, 1)), "png"), colours(size=(1, 1))),
        "line.png": (encoded(colours(size=(1, 60000)), "png"), "a picture of 1 x 60000 has sides"),
        "bomb.png": (encoded(Image.new("1", (4000, 4000)), "png"), "a picture of 4000 x 4000 has"),
        "film.gif": (encoded(palette, "gif", save_all=True, append_images=frames), None),
        "cmyk.jpg": (encoded(rgb.convert("CMYK"), "jpg"), None),
        "progressive.jpg": (encoded(rgb, "jpg", progressive=True), None),
        "profile.jpg": (encoded(rgb, "jpg", icc_profile=b"no profile"), None),
        "pair.mpo": (encoded(rgb, "mpo", save_all=True, append_images=frames), None),
        "arithmetic.jpg": (arithmetic, ""),
    }  # fmt: skip
    for name, (content, _) in odd.items():
        (folder / name).write_bytes(content)
    return {name: expected for name, (_, expected) in odd.items()}


def slow(scans):
    """A small JPEG that takes a millisecond to decode for each of its many scans."""
    content = encoded(Image.new("L", (1500, 1500), 90), "jpg", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scans * last + content[-2:]


def write_names(folder):
    """Write pictures with odd names, and what looks like pictures by its name.

    Returns:
        By the key below the folder: None for a picture, else a part of the error.
    """
    folder.mkdir()
    content = encoded(colours(), "png")
    names = {
        b"two\nlines.png": "two\nlines.png", b"\xff\xfe.png": r"\xff\xfe.png",
        b"back\\slash.png": r"back\\slash.png", b"n" * 246 + b".png": "n" * 246 + ".png",
        b" .png": " .png", b"-o.png": "-o.png", "日本.PNG".encode(): "日本.PNG",
        b"#1%20?.png": "#1%20?.png", b"folder.jpg/in.png": "folder.jpg/in.png",
    }  # fmt: skip
    (folder / "folder.jpg").mkdir()
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(content)
    keys: dict[str, str | None] = dict.fromkeys(names.values())
    os.mkfifo(folder / "pipe.jpg")
    (folder / "back.jpg").symlink_to("..")
    (folder / "nowhere.jpg").symlink_to("nothing.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "link.jpg").symlink_to("-o.png")
    keys |= {"nowhere.jpg": "no such file", "self.jpg": "symbolic links", "link.jpg": None}
    if os.getuid():  # root may read all files
        (folder / "secret.png").write_bytes(content)
        (folder / "secret.png").chmod(0)
        keys["secret.png"] = "Permission denied"
    return keys
