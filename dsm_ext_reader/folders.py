"""Finding the pictures below a folder."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

# Pillow opens these formats but cannot decode them alone: they need Ghostscript, Windows or a
# handler of another package, or they are films.
NEEDS_OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


def suffixes() -> set[str]:
    """The lower-case endings of the picture formats that the installed Pillow decodes."""
    # Pillow lists MPO as a format of its own, but opens MPO files as JPEG.
    return {
        suffix
        for suffix, name in Image.registered_extensions().items()
        if (name in Image.OPEN or name == "MPO") and name not in NEEDS_OTHERS
    }


def find_images(folder: str | Path) -> list[Path]:
    """List the pictures below a folder, by their endings, in timm's order: file2 before file10.

    Links are followed, except links to a folder above them. A folder with two links to it is read
    twice. Hidden files, hidden folders and macOS's ``__MACOSX`` are ignored. The number of other
    files that are not pictures is printed on stderr.

    Raises:
        FileNotFoundError: the folder does not exist or has no pictures.
        OSError: a folder below it cannot be listed. Its classes would be lost without notice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {folder}")
    known = suffixes()
    files = list(_walk(folder, []))
    found = sorted((p for p in files if p.suffix.lower() in known), key=natural_order)
    others = Counter(
        p.suffix.lower() or "no ending" for p in files if p.suffix.lower() not in known
    )
    passed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not found:
        raise FileNotFoundError(
            f"dsm_ext: no pictures in {folder}"
            + (f", only other files: {passed}" if others else "")
        )
    if others:
        count = f"{others.total()} of {len(files)} files"
        report(
            f"ignored in {folder}, as their endings are not those of pictures: {count} ({passed})"
        )
    return found


def _walk(folder: Path, above: list[Path]) -> Iterator[Path]:
    """List the files below a folder. ``above``: the real paths of the folders that lead to it."""
    chain = [*above, Path(os.path.realpath(folder))]
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise type(error)(f"dsm_ext: {folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        path = folder / entry.name
        # Yield a broken link as a file, so that the error of reading it names it.
        if entry.is_symlink() and not os.path.exists(path):
            yield path
            continue
        if not entry.is_dir():
            if entry.is_file():  # not a pipe: reading one would wait for a writer
                yield path
            continue
        target = Path(os.path.realpath(path))
        if any(place.is_relative_to(target) for place in chain):
            report(f"{path} is a link that leads back to {target}: it is not followed")
            continue
        yield from _walk(path, chain)


def natural_order(name: str | Path) -> tuple[list[str | int], str]:
    """A sort key for timm's order: numbers by value, letters without regard to case."""
    text = str(name)
    parts = re.split(r"(\d+)", text.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def report(text: str) -> None:
    """Print a message to the user on stderr."""
    print(f"dsm_ext: {text}", file=sys.stderr)
