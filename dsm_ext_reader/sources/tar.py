"""Pictures in tar archives, such as WebDataset's: units of them, and finding them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from dsm_ext_reader.folders import ending, hidden, suffixes
from dsm_ext_reader.keys import key_of
from dsm_ext_reader.places import MOST, Place, reason
from dsm_ext_reader.sources.tar_headers import BLOCK, Damaged, Member, Tape, is_header, members
from dsm_ext_reader.units import Known, Lost, Picture, Unit, lost

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Members:
    """Some pictures of an archive on this machine that is not compressed, by their places in it."""

    archive: Place
    entries: tuple[tuple[str, int, int], ...]  # name, start and size

    @property
    def key(self) -> str:
        return f"{key_of(self.archive.name)}#{self.entries[0][1]}"

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        keys = [_key(self.archive, name) for name, _, _ in self.entries]
        skipped = known(keys) if known is not None else [False] * len(keys)
        for key, (_, start, size), skip in zip(keys, self.entries, skipped, strict=True):
            if not skip:
                yield Picture(key, partial(self._read, key, start, size))

    def _read(self, key: str, start: int, size: int) -> bytes:
        with self.archive.open() as file:
            file.seek(start)
            try:
                content = file.read(size)
            except OSError as error:
                raise type(error)(f"dsm_ext: {key} cannot be read: {reason(error)}") from error
        if len(content) < size:
            raise ValueError(f"dsm_ext: {key} is cut short: it has {len(content)} of {size} bytes")
        return content


@dataclass(frozen=True)
class Archive:
    """A whole archive that is read from its beginning: it is compressed, or not on this machine."""

    place: Place

    @property
    def key(self) -> str:
        return key_of(self.place.name)

    def pictures(self, known: Known | None = None) -> Iterator[Picture]:
        found = _Found(self.place)
        try:
            with self.place.open(stream=True) as file:
                tape = Tape(plain(file))
                for member in members(tape):
                    if not found.picture(member):
                        continue
                    key = _key(self.place, member.name)
                    if known is not None and known([key])[0]:
                        continue
                    if problem := _problem(member):
                        yield lost(key, f"dsm_ext: {key} is {problem}")
                        continue
                    content = tape.read(member.size)
                    if len(content) == member.size:  # else members() tells where it ends
                        yield Picture(key, partial(_same, content))
        except Exception as error:  # file systems and decompression raise types of their own
            yield from found.broken(error).pictures(known)
        else:
            if not found.pictures:
                yield from found.empty().pictures(known)


def index(place: Place, size: int) -> Iterator[Unit]:
    """Yield the pictures of a local archive in units of up to ``size``, from its headers alone.

    An archive that is compressed is one unit.
    """
    found = _Found(place)
    entries: list[tuple[str, int, int]] = []
    try:
        with place.open() as file:
            length = os.fstat(file.fileno()).st_size
            if length and not is_header(file.read(BLOCK)):
                yield Archive(place)
                return
            file.seek(0)
            for member in members(Tape(file, length)):
                if not found.picture(member):
                    continue
                if problem := _problem(member):
                    key = _key(place, member.name)
                    yield Lost(key, f"dsm_ext: {key} is {problem}")
                    continue
                if member.start + member.size <= length:
                    entries.append((member.name, member.start, member.size))
                if len(entries) == size:
                    yield Members(place, tuple(entries))
                    entries = []
    except (OSError, ValueError) as error:
        if entries:
            yield Members(place, tuple(entries))
        yield found.broken(error)
        return
    if entries:
        yield Members(place, tuple(entries))
    if not found.pictures:
        yield found.empty()


def count(place: Place) -> int | None:
    """The number of pictures in a local archive. None if it is compressed or damaged."""
    found = _Found(place)
    try:
        with place.open() as file:
            length = os.fstat(file.fileno()).st_size
            if not is_header(file.read(BLOCK)):
                return None
            file.seek(0)
            return sum(found.picture(member) for member in members(Tape(file, length)))
    except (OSError, ValueError):
        return None


class _Found:
    """What was found in an archive so far."""

    def __init__(self, archive: Place) -> None:
        self.archive = archive
        self.endings = suffixes()
        self.members = self.pictures = 0
        self.others: Counter[str] = Counter()

    def picture(self, member: Member) -> bool:
        """Count a member, and tell whether it is a picture by its name."""
        self.members += 1
        parts = member.name.split("/")
        if member.is_folder or any(hidden(part) and part not in (".", "..") for part in parts):
            return False
        end = ending(member.name)
        if end in self.endings:
            self.pictures += 1
            return True
        self.others[end or "no ending"] += 1
        return False

    def broken(self, error: Exception) -> Lost:
        """The archive as one picture that says what is lost."""
        name = self.archive.shown
        if str(error).startswith("dsm_ext: "):
            message = str(error)  # from opening it
        elif not self.members and isinstance(error, Damaged):
            message = f"dsm_ext: {name} is no tar archive: {error}"
        else:
            message = (
                f"dsm_ext: {name} is damaged after {self.members} members, and what follows is "
                f"lost: {reason(error)}"
            )
        return Lost(key_of(self.archive.name), message)

    def empty(self) -> Lost:
        """The archive as one picture that says that it has none."""
        others = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
        message = f"dsm_ext: no pictures in {self.archive.shown}" + (
            f", only other files: {others}" if others else ""
        )
        return Lost(key_of(self.archive.name), message)


def plain(file: BinaryIO) -> BinaryIO:
    """The uncompressed archive of a stream, by what it begins with."""
    head = b""
    while len(head) < BLOCK and (part := file.read(BLOCK - len(head))):
        head += part
    whole: Any = io.BufferedReader(_Joined(head, file), 2**18)
    if is_header(head):
        return whole
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=whole)  # type: ignore[return-value]
    if head.startswith(BZIP2):
        return bz2.BZ2File(whole)  # type: ignore[return-value]
    if head.startswith(XZ):
        return lzma.LZMAFile(whole)  # type: ignore[return-value]
    if head.startswith(ZSTD):
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(whole, mode="r"), "zstd")
    return whole


class _Joined(io.RawIOBase):
    """A stream with what was read of it already put back."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self.head, self.file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.head[: len(buffer)] or self.file.read(len(buffer))
        self.head = self.head[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _key(archive: Place, member: str) -> str:
    return key_of(f"{archive.name}/{member}")


def _problem(member: Member) -> str:
    """Why a member with a picture's name cannot be read. Empty if it can."""
    if member.problem:
        return member.problem
    if not member.size:
        return "empty"
    if member.size > MOST:
        return f"too large for a picture: it has {member.size} bytes, expected at most {MOST}"
    return ""


def _same(content: bytes) -> bytes:
    return content
