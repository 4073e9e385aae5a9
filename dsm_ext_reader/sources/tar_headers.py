"""Reading the headers of a tar archive.

Python's ``tarfile`` keeps every member in memory, and some versions of it never end, or read
everything into memory, on an archive made for that. This reader keeps nothing and trusts nothing.
Formats: POSIX.1-2001, "pax Interchange Format" and "ustar"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
MOST_TEXT = 2**20  # bytes of a long name or of a pax header
SKIP = 2**20  # bytes that are read at a time to pass over what cannot be sought
WITHOUT_DATA = b"123456"  # links, devices, folders, pipes
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")


class Damaged(ValueError):
    """An archive is not as its format expects. The message says where and how."""


@dataclass(frozen=True)
class Member:
    """A member of an archive.

    Attributes:
        name: its path in the archive, without "./" before it.
        start: where its data begins, in bytes.
        size: the length of its data in bytes.
        problem: why it is not a file that can be read, such as "a link to x". Empty if it is one.
        is_folder: it is a folder.
    """

    name: str
    start: int
    size: int
    problem: str = ""
    is_folder: bool = False


class Tape:
    """An archive that is read from its beginning to its end.

    Args:
        file: the uncompressed archive.
        size: its size, if it can be sought in. What is passed over is then not read.
    """

    def __init__(self, file: BinaryIO, size: int | None = None) -> None:
        self.file, self.size, self.position = file, size, 0

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes, or what is left if this is less."""
        parts = []
        while count and (part := self.file.read(min(count, SKIP) if self.size is None else count)):
            parts.append(part)
            count -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def pass_to(self, position: int) -> None:
        """Go on to a place. It may be behind the end, where nothing can be read."""
        if self.size is not None:
            self.file.seek(position)
            self.position = position
            return
        while self.position < position and self.read(min(SKIP, position - self.position)):
            pass


def members(tape: Tape) -> Iterator[Member]:
    """Yield the members of an archive. The tape is then at the data of this member.

    Raises:
        Damaged: a header is damaged, or the archive ends too early.
    """
    extra: dict[bytes, bytes] = {}
    while True:
        header = tape.read(BLOCK)
        if not header and tape.position:  # every writer that was not stopped adds a block of zeros
            raise Damaged(f"it ends at byte {tape.position} without the mark of an archive's end")
        if not header.strip(b"\0"):
            return
        if len(header) < BLOCK:
            raise Damaged(f"it ends within the header at byte {tape.position - len(header)}")
        kind, size = header[156:157], number(header[124:136])
        if not is_header(header):
            raise Damaged(f"there is no header at byte {tape.position - BLOCK}")
        if kind in b"LKxgX":
            extra |= _text(tape, kind, size)
            continue
        if b"size" in extra:
            size = _decimal(extra[b"size"])
        if kind in WITHOUT_DATA:
            size = 0
        more = kind == b"S" and header[482]
        while more and len(block := tape.read(BLOCK)) == BLOCK:  # the rest of a sparse file's map
            more = block[504]
        start = tape.position
        yield _member(header, kind, start, size, extra)
        extra = {}
        end = start + size
        if tape.size is not None and end > tape.size:
            raise Damaged(f"it ends at byte {tape.size}, within a member that ends at byte {end}")
        tape.pass_to(end + -size % BLOCK)
        if tape.position < end:
            raise Damaged(
                f"it ends at byte {tape.position}, within a member that ends at byte {end}"
            )


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a member, by its checksum."""
    if len(block) < BLOCK:
        return False
    fields = block[:148] + b" " * 8 + block[156:]
    total = sum(fields)
    # Old programs added signed bytes.
    signed = total - 256 * sum(byte > 127 for byte in fields)
    return number(block[148:156]) in (total, signed)


def number(value: bytes) -> int:
    """A number in a header: octal digits, or 256-based if the highest bit is set.

    -1 for what is not a number, which is then no checksum, and no size either.
    """
    if value[0] & 0x80:
        return -1 if value[0] == 0xFF else int.from_bytes(value, "big") & (1 << 71) - 1
    digits = value.split(b"\0")[0].strip()
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else -1


def _text(tape: Tape, kind: bytes, size: int) -> dict[bytes, bytes]:
    """What a header that stands before a member says about it."""
    start = tape.position
    if not 0 <= size <= MOST_TEXT:
        raise Damaged(f"the text at byte {start} has {size} bytes: expected at most {MOST_TEXT}")
    text = tape.read(size)
    if len(text) < size:
        raise Damaged(f"it ends within the text at byte {start}")
    tape.pass_to(start + size + -size % BLOCK)
    if kind == b"L":
        return {b"path": text.split(b"\0")[0]}
    if kind == b"K":
        return {b"linkpath": text.split(b"\0")[0]}
    if kind == b"g":  # about all members: dates and comments
        return {}
    records = {}
    position = 0
    while position < size and (record := PAX_RECORD.match(text, position)):
        end = position + int(record[1])
        if end <= record.end() or text[end - 1 : end] != b"\n":
            break
        records[record[2]] = text[record.end() : end - 1]
        position = end
    if text[position:].strip(b"\0"):
        raise Damaged(f"the pax header at byte {start} is damaged")
    return records


def _member(header: bytes, kind: bytes, start: int, size: int, extra: dict[bytes, bytes]) -> Member:
    if size < 0 or size >= 2**62:
        raise Damaged(f"the header at byte {start - BLOCK} has no size")
    name = header[:100].split(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0")[0] + b"/" + name
    name = extra.get(b"GNU.sparse.name") or extra.get(b"path") or name
    is_folder = kind == b"5" or (kind in b"0\0" and name.endswith(b"/"))
    problem = ""
    if kind in (b"1", b"2"):
        target = extra.get(b"linkpath") or header[157:257].split(b"\0")[0]
        text = os.fsdecode(target)
        problem = f"a link to {text}: only what it leads to is read"
    elif kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in extra):
        problem = "a sparse file: pictures in archives are expected to be whole"
    elif kind not in (b"0", b"\0", b"7"):
        problem = "no file"
    return Member(os.fsdecode(_plain(name)), start, size, problem, is_folder)


def _plain(name: bytes) -> bytes:
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    return name


def _decimal(text: bytes) -> int:
    return int(text) if re.fullmatch(rb"\d{1,19}", text) else -1
