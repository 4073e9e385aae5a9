"""The kinds of sources: what each one's units are, and how to tell the kind of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from dsm_ext_reader.filesystems import is_url
from dsm_ext_reader.folders import Passed, ending, none_found, suffixes
from dsm_ext_reader.keys import key_of
from dsm_ext_reader.places import Place, place_of
from dsm_ext_reader.sources import lists, tar
from dsm_ext_reader.sources.walking import Pattern, split_pattern, walk_place
from dsm_ext_reader.units import Files, Lost, Unit

PICTURE, LIST, TABLE, ARCHIVE = "picture", "list", "table", "archive"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
LISTS, TABLES, ARCHIVES = (".txt", ".lst"), (".parquet", ".pq"), (".tar", ".tgz", ".tbz2", ".txz")
Columns = tuple[str | None, str | None]  # of tables: those of the pictures and of the keys


class Source(Protocol):
    """What a user named as a place of pictures."""

    def units(self, size: int) -> Iterator[Unit]:
        """Yield its units while it is read."""
        ...

    def count(self) -> int | None:
        """The number of its pictures, without reading them. None if that is not possible."""
        ...

    def check_columns(self) -> bool:
        """Raise if a table's columns are not clear. False if it has no table."""
        ...


def kind_of(name: str) -> str | None:
    """The kind of a file, by its ending. None if no kind has it."""
    end = ending(name)
    if end in COMPRESSED and ending(name[: -len(end)]) == ".tar":
        return ARCHIVE
    for kind, endings in ((LIST, LISTS), (TABLE, TABLES), (ARCHIVE, ARCHIVES)):
        if end in endings:
            return kind
    return PICTURE if end in suffixes() else None


@dataclass(frozen=True)
class File:
    """One file."""

    place: Place
    kind: str
    columns: Columns

    def units(self, size: int) -> Iterator[Unit]:
        if self.kind == PICTURE:
            yield Files(self.place, ("",))
        elif self.kind == LIST:
            yield from lists.listed(self.place, size)
        elif self.kind == TABLE:
            from dsm_ext_reader.sources import parquet

            yield from parquet.row_groups(self.place, *self.columns)
        elif self.place.url:
            yield tar.Archive(self.place)
        else:
            yield from tar.index(self.place, size)

    def count(self) -> int | None:
        if self.kind == PICTURE:
            return 1
        if self.kind == LIST:
            return lists.count(self.place)
        if self.kind == TABLE:
            from dsm_ext_reader.sources import parquet

            return parquet.count(self.place)
        return None if self.place.url else tar.count(self.place)

    def check_columns(self) -> bool:
        if self.kind != TABLE:
            return False
        from dsm_ext_reader.sources import parquet

        parquet.columns(self.place, *self.columns)
        return True


@dataclass(frozen=True)
class Pictures:
    """The pictures below a folder, or those among them that a pattern takes."""

    folder: Place
    pattern: Pattern | None = None

    def units(self, size: int) -> Iterator[Unit]:
        passed = Passed()
        errors: list[Lost] = []

        def failed(path: str, error: OSError) -> None:
            errors.append(Lost(key_of(self.folder.child(path).name), str(error)))

        names = walk_place(self.folder, passed, pattern=self.pattern, failed=failed)
        while some := tuple(islice(names, size)):
            yield Files(self.folder, some)
        yield from errors
        passed.report(self.folder.shown)

    def count(self) -> int | None:
        try:
            names = walk_place(self.folder, Passed(), pattern=self.pattern, ordered=False)
            return sum(1 for _ in names)
        except (OSError, ValueError):
            return None

    def check_columns(self) -> bool:
        return False

    def check(self, text: str) -> None:
        """Raise FileNotFoundError if there are no pictures, or OSError if nothing can be listed."""
        passed = Passed()
        errors: list[OSError] = []
        names = walk_place(
            self.folder,
            passed,
            pattern=self.pattern,
            failed=lambda path, error: errors.append(error),
            ordered=False,
        )
        if next(names, None) is not None:
            return
        if errors:
            raise errors[0]
        others = [end for end in (*TABLES, *ARCHIVES) if end in passed.endings]
        message = none_found(key_of(text), passed)
        if others and self.pattern is None:
            message += f"; to read them, give '{key_of(text.rstrip('/'))}/**/*{others[0]}'"
        raise FileNotFoundError(message)


@dataclass(frozen=True)
class Matches:
    """The lists, tables or archives below a folder that a pattern takes."""

    folder: Place
    pattern: Pattern
    kind: str
    columns: Columns

    def units(self, size: int) -> Iterator[Unit]:
        for file in self._files():
            if isinstance(file, Lost):
                yield file
            else:
                yield from file.units(size)

    def count(self) -> int | None:
        total = 0
        for file in self._files():
            number = None if isinstance(file, Lost) else file.count()
            if number is None:
                return None
            total += number
        return total

    def check_columns(self) -> bool:
        first = next(self._files())
        return isinstance(first, File) and first.check_columns()

    def check(self, text: str) -> None:
        """Raise FileNotFoundError if there are none, or OSError if nothing can be listed."""
        first = next(self._files(), None)
        if first is None:
            raise FileNotFoundError(f"dsm_ext: no such file: {key_of(text)}")
        if isinstance(first, Lost):
            raise OSError(first.message)

    def _files(self) -> Iterator[File | Lost]:
        """The files, and after them the folders that could not be listed."""
        endings = {LIST: LISTS, TABLE: TABLES, ARCHIVE: ARCHIVES + COMPRESSED}[self.kind]
        errors: list[Lost] = []

        def failed(path: str, error: OSError) -> None:
            errors.append(Lost(key_of(self.folder.child(path).name), str(error)))

        for name in walk_place(
            self.folder, Passed(), endings=endings, pattern=self.pattern, failed=failed
        ):
            if kind_of(name) == self.kind:
                yield File(self.folder.child(name), self.kind, self.columns)
        yield from errors


def source_of(text: str, columns: Columns) -> Source:
    """The source that a text names. It raises what ``Sources`` raises."""
    place = place_of(text)
    found = place.kind()
    if found is None and (split := split_pattern(text)):
        return _matching(text, split, columns)
    if found is None:
        raise FileNotFoundError(f"dsm_ext: no such file or folder: {place.shown}")
    if found == "folder":
        folder = Pictures(place)
        folder.check(text)
        return folder
    kind = kind_of(_path_of(place.name)) if found == "file" else None
    if kind is None:
        what = "" if found == "file" else f": it is a {found}"
        raise ValueError(
            f"dsm_ext: expected {place.shown} to be a folder, a picture, a list ({_some(LISTS)}), "
            f"a Parquet table ({_some(TABLES)}) or a tar archive ({_some(ARCHIVES)}), which its "
            f"ending tells{what}"
        )
    return File(place, kind, columns)


def _some(endings: tuple[str, ...]) -> str:
    return ", ".join(endings)


def _matching(text: str, split: tuple[str, str], columns: Columns) -> Source:
    folder, pattern = split
    place = place_of(folder)
    kind = kind_of(pattern.rstrip("*?"))
    if place.kind() != "folder":
        raise FileNotFoundError(f"dsm_ext: no such folder: {place.shown}")
    if kind in (None, PICTURE):
        pictures = Pictures(place, Pattern(pattern, exact=False))
        pictures.check(text)
        return pictures
    matches = Matches(place, Pattern(pattern, exact=True), kind, columns)
    matches.check(text)
    return matches


def _path_of(name: str) -> str:
    """The part of a name that ends with the ending of its file."""
    if not is_url(name):
        return name
    head, _, _ = name.partition("::")
    path = head if "://" in head else name
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path
