"""Finding the pictures below a folder."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

# Pillow opens these formats but cannot decode them alone: they need Ghostscript, Windows or a
# handler of another package, or they are films.
NEEDS_OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
MANY = 20_000  # a folder with more files is walked in the plain order of their names
SPECIAL = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def suffixes() -> set[str]:
    """The lower-case endings of the picture formats that the installed Pillow decodes."""
    # Pillow lists MPO as a format of its own, but opens MPO files as JPEG.
    return {
        suffix
        for suffix, name in Image.registered_extensions().items()
        if (name in Image.OPEN or name == "MPO") and name not in NEEDS_OTHERS
    }


def ending(name: str) -> str:
    """The lower-case ending of a file's name, with its dot. Empty if the name has none."""
    last = name.rpartition("/")[2]
    stem, dot, end = last.rpartition(".")
    return dot + end.lower() if stem and end else ""


def hidden(name: str) -> bool:
    """Whether a file or folder is passed over by its name: it is hidden, or macOS's own."""
    return name.startswith(".") or name == "__MACOSX"


@dataclass
class Passed:
    """What a walk passed over: files by their endings, special files by their kind, and links."""

    endings: Counter[str] = field(default_factory=Counter)
    special: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)  # why they are not followed
    taken: int = 0

    def counted(self, name: str, wanted: Collection[str]) -> bool:
        """Count a file as taken or passed over. True if its ending is a wanted one."""
        end = ending(name)
        if end in wanted:
            self.taken += 1
            return True
        self.endings[end or "no ending"] += 1
        return False

    def text(self) -> str:
        """The files that were passed over, by their endings: "3 .mp4, 1 no ending"."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.endings.items()))

    def report(self, folder: str | Path) -> None:
        """Print what was passed over on stderr, if there is something."""
        for link in self.links:
            report(link)
        if self.endings:
            count = f"{self.endings.total()} of {self.taken + self.endings.total()} files"
            report(
                f"ignored in {folder}, as their endings are not those of pictures: {count} "
                f"({self.text()})"
            )
        if self.special:
            kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.special.items()))
            report(f"ignored in {folder}, as they are not files: {kinds}")


def find_images(folder: str | Path) -> list[Path]:
    """List the pictures below a folder, by their endings, in timm's order: file2 before file10.

    It takes the files that ``walk`` takes. The number of other files is printed on stderr.

    Raises:
        FileNotFoundError: the folder does not exist or has no pictures.
        OSError: a folder below it cannot be listed. Its classes would be lost without notice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {folder}")
    passed = Passed()
    found = sorted((folder / name for name in walk(folder, passed)), key=natural_order)
    if not found:
        raise FileNotFoundError(none_found(folder, passed))
    passed.report(folder)
    return found


def none_found(folder: str | Path, passed: Passed) -> str:
    """The message where a folder has no pictures."""
    others = f", only other files: {passed.text()}" if passed.endings else ""
    return f"dsm_ext: no pictures in {folder}{others}"


def walk(
    folder: str | Path,
    passed: Passed,
    *,
    endings: Collection[str] | None = None,
    takes: Callable[[str], bool] = lambda path: True,
    enters: Callable[[str], bool] = lambda path: True,
    failed: Callable[[str, OSError], None] | None = None,
    ordered: bool = True,
) -> Iterator[str]:
    """Yield the pictures below a folder while it is read, in natural order within each folder.

    A folder of more than ``MANY`` files is read in the plain order of their names. Only the
    contents of the folders on the way to the latest picture are in memory. Links are
    followed, except links to a folder above them. A folder with two links to it is read twice. A
    link that leads nowhere counts as a file, so that the error of reading it names it. Hidden
    files, hidden folders and macOS's ``__MACOSX`` are ignored. Pipes, sockets and devices are
    never opened.

    Args:
        folder: an existing folder.
        passed: counts the files that are passed over, except those that ``takes`` refuses.
        endings: the lower-case endings of the files to yield. Default: those of pictures.
        takes: chooses files by their paths below ``folder``.
        enters: chooses folders by their paths below ``folder``.
        failed: is called with the path below ``folder`` and the error, where a folder cannot be
            listed; the walk then goes on. Default: the error is raised.
        ordered: False takes less time and any order.

    Yields:
        Paths below ``folder``, without it.

    Raises:
        OSError: a folder cannot be listed. The message names it.
    """
    wanted = suffixes() if endings is None else endings
    top = os.fspath(folder)
    # Of each open folder: its path below the top, the real paths of it and of those above, and
    # what is left of its content.
    stack = [("", [os.path.realpath(top)], iter(_listed(top, "", passed, failed, ordered)))]
    while stack:
        above, chain, content = stack[-1]
        for name, is_folder in content:
            path = above + name
            if is_folder:
                shown = os.path.join(top, path)
                if enters(path) and (below := _chain(chain, name, shown, passed)):
                    inside = _listed(shown, path, passed, failed, ordered)
                    stack.append((path + "/", below, iter(inside)))
                    break
            elif takes(path) and passed.counted(name, wanted):
                yield path
        else:
            stack.pop()


def _chain(above: list[str], name: str, shown: str, passed: Passed) -> list[str] | None:
    """The real paths of a folder and of those above it. None for a link to a folder above it."""
    real = os.path.join(above[-1], name)
    if os.path.islink(real):
        real = os.path.realpath(real)
        if any(place == real or place.startswith(real.rstrip("/") + "/") for place in above):
            passed.links.append(f"{shown} is a link that leads back to {real}: it is not followed")
            return None
    return [*above, real]


def _listed(
    folder: str,
    path: str,
    passed: Passed,
    failed: Callable[[str, OSError], None] | None,
    ordered: bool,
) -> list[tuple[str, bool]]:
    """The content of a folder. Empty if it cannot be listed and ``failed`` is told."""
    try:
        return _content(folder, passed, ordered)
    except OSError as error:
        named = type(error)(f"dsm_ext: {folder} cannot be listed: {error.strerror}")
        if failed is None:
            raise named from error
        failed(path, named)
        return []


def _content(folder: str, passed: Passed, ordered: bool) -> list[tuple[str, bool]]:
    """The names in a folder in natural order, and which are folders. Counts special files."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if hidden(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
                if not is_folder and not entry.is_file():
                    passed.special[SPECIAL[stat.S_IFMT(entry.stat().st_mode)]] += 1
                    continue
            except (OSError, KeyError):  # such as a link that leads nowhere
                is_folder = False
            found.append((entry.name, is_folder))
    if ordered:  # the natural order of a million names would take 10 s and 300 MB
        found.sort(key=None if len(found) > MANY else lambda entry: natural_order(entry[0]))
    return found


def natural_order(name: str | Path) -> tuple[list[str | int], str]:
    """A sort key for timm's order: numbers by value, letters without regard to case."""
    text = str(name)
    parts = re.split(r"(\d+)", text.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def report(text: str) -> None:
    """Print a message to the user on stderr."""
    print(f"dsm_ext: {text}", file=sys.stderr)
