"""Finding files below a folder in any file system, also by patterns such as ``a/**/*.jpg``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterator

from dsm_ext_reader.filesystems import ARROW, OPTIONS, URL
from dsm_ext_reader.folders import Passed, hidden, natural_order, suffixes, walk
from dsm_ext_reader.places import Place, cleaned, reason

RECURSIVE = "**"  # as a part of a pattern: any number of folders


class Pattern:
    """A pattern for the paths below a folder, such as ``*/train/**/*.jpg``.

    ``*`` and ``?`` stand for characters of one name, ``[...]`` for one character of several, and
    ``**`` for any number of folders. A folder that matches stands for the pictures below it, unless
    ``exact``.
    """

    def __init__(self, text: str, exact: bool) -> None:
        self.exact = exact
        self._parts: list[Callable[[str], object] | None] = []
        for part in cleaned(text).split("/"):
            if part != RECURSIVE:
                self._parts.append(re.compile(fnmatch.translate(part)).match)
            elif not self._parts or self._parts[-1] is not None:  # two of them in a row are one
                self._parts.append(None)

    def takes(self, path: str) -> bool:
        """Whether a file matches, or a folder that it is in."""
        return self._takes(path.split("/"), 0, 0)

    def enters(self, path: str) -> bool:
        """Whether something below a folder may match."""
        names = path.split("/")
        for name, part in zip(names, self._parts, strict=False):
            if part is None:
                return True
            if not part(name):
                return False
        return not self.exact or len(names) < len(self._parts)

    def _takes(self, names: list[str], name: int, part: int) -> bool:
        if part == len(self._parts):
            return name == len(names) or not self.exact
        matches = self._parts[part]
        if matches is None:
            if part + 1 == len(self._parts):
                return True
            return any(self._takes(names, i, part + 1) for i in range(name, len(names)))
        return (
            name < len(names)
            and bool(matches(names[name]))
            and self._takes(names, name + 1, part + 1)
        )


def split_pattern(text: str) -> tuple[str, str] | None:
    """The folder before a pattern, and the pattern. None if the text has none of ``*?[``.

    In URLs, ``?`` has another meaning, and only what a chain of them begins with is a pattern. In
    those of web servers, which do not list their files, nothing is one.
    """
    url = URL.match(text)
    if url and url[1].lower() in ("http", "https") and url.start(1) == 0:
        return None
    start = url.end() if url else 0
    rest = ""
    if url and "::" in text[start:]:
        start, end = 0, text.index("::")
        start = text.index("://") + 3 if "://" in text[:end] else end
        text, rest = text[:end], text[end:]
    elif url and url[1].lower() in ARROW and (options := OPTIONS.search(text)):
        text, rest = text[: options.start()], options[0]
    found = re.search(r"[*\[]" if url else r"[*?\[]", text[start:])
    if not found:
        return None
    slash = text.rfind("/", start, start + found.start())
    folder = text[:start] if slash < 0 else text[: slash + 1]
    return folder + rest or ".", text[slash + 1 if slash >= 0 else start :].strip("/")


def walk_place(
    folder: Place,
    passed: Passed,
    *,
    endings: Collection[str] | None = None,
    pattern: Pattern | None = None,
    failed: Callable[[str, OSError], None] | None = None,
    ordered: bool = True,
) -> Iterator[str]:
    """``walk`` in any file system, and by a pattern. Yields paths below the folder.

    In file systems that are not local, each folder is listed by a request of its own.

    Raises:
        OSError: as ``walk``.
        ValueError, ImportError: the file system cannot be opened.
    """
    takes = pattern.takes if pattern else lambda path: True
    enters = pattern.enters if pattern else lambda path: True
    if not folder.url:
        yield from walk(
            folder.path,
            passed,
            endings=endings,
            takes=takes,
            enters=enters,
            failed=failed,
            ordered=ordered,
        )
        return
    wanted = suffixes() if endings is None else endings
    left = [""]  # folders that are still to be listed, the next one last
    while left:
        above = left.pop()
        try:
            content = _content(folder, above)
        except OSError as error:
            if failed is None:
                raise
            failed(above, error)
            continue
        prefix = above + "/" if above else ""
        inside = []
        for name, is_folder in content:
            path = prefix + name
            if is_folder:
                if enters(path):
                    inside.append(path)
            elif takes(path) and passed.counted(name, wanted):
                yield path
        left.extend(reversed(inside))


def _content(top: Place, path: str) -> list[tuple[str, bool]]:
    """The names in a folder in natural order, and which are folders."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, base = top.filesystem()
    place = top.child(path)
    try:
        found = filesystem.get_file_info(FileSelector(f"{base}/{path}" if path else base))
    except Exception as error:  # file systems raise types of their own
        raise OSError(f"dsm_ext: {place.shown} cannot be listed: {reason(error)}") from error
    names = [
        (info.path.rstrip("/").rpartition("/")[2], info.type == FileType.Directory)
        for info in found
    ]
    return sorted(
        (entry for entry in names if entry[0] and not hidden(entry[0])),
        key=lambda entry: natural_order(entry[0]),
    )
