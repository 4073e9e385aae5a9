"""Places of files and folders: on this machine, or in a file system that a URL names."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from dsm_ext_reader.filesystems import (
    ARROW,
    OPTIONS,
    URL,
    is_url,
    open_filesystem,
    without_secrets,
)
from dsm_ext_reader.folders import SPECIAL
from dsm_ext_reader.keys import key_of

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", **SPECIAL}
MOST = 512 * 2**20  # bytes of an encoded picture; a larger one is refused before it fills memory
CHUNK = 8 * 2**20  # bytes to ask a file system for at a time; most pictures come at once


@dataclass(frozen=True)
class Place:
    """A file or folder. It can be pickled, and is opened only where it is read.

    Attributes:
        name: how the user knows it. Empty for a folder that the user did not name: the names of
            what it contains are then texts of the user's, such as the lines of a list, which may be
            absolute paths or URLs.
        path: its absolute path on this machine, or its path below ``url`` in that file system.
        url: what ``open_filesystem`` opens. Empty for this machine.
    """

    name: str
    path: str
    url: str = ""

    @property
    def shown(self) -> str:
        """The name as error messages show it: as text that UTF-8 can hold."""
        return key_of(without_secrets(self.name))

    def child(self, path: str) -> Place:
        """The place of what is at a path below this folder."""
        if not path:
            return self
        if self.name:
            name = _join(self.name, path)
        elif is_url(path):
            return replace(place_of(path), name=path)
        else:
            name = path
        if self.url:
            return Place(name, f"{self.path}/{path}" if self.path else path, self.url)
        return Place(name, os.path.join(self.path, path))

    def parent(self) -> Place:
        """The folder that relative paths in this file start at.

        This is the current folder if the file is on this machine, and else the folder of the file.
        """
        if not self.url:
            return Place("", os.getcwd())
        return Place("", self.path.rpartition("/")[0], self.url)

    def filesystem(self) -> tuple[FileSystem, str]:
        """The file system and the path in it, for a place that has a URL.

        Raises:
            ValueError, ImportError, OSError: it cannot be opened. The message names the URL.
        """
        filesystem, base = _opened(self.url)
        return filesystem, f"{base.rstrip('/')}/{self.path}" if self.path else base

    def kind(self) -> str | None:
        """What is there: "file", "folder", the name of another kind of file, or None for nothing.

        Raises:
            ValueError, ImportError, OSError: this cannot be found out. The message names it.
        """
        if not self.url:
            return self._local_kind()
        from pyarrow.fs import FileType

        filesystem, path = self.filesystem()
        try:
            kind = filesystem.get_file_info(path).type
        except Exception as error:  # file systems raise types of their own
            raise OSError(f"dsm_ext: {self.shown} cannot be opened: {reason(error)}") from error
        return {FileType.File: "file", FileType.Directory: "folder"}.get(kind)

    def open(self, stream: bool = False) -> BinaryIO:
        """Open a file. ``stream``: to read it from its beginning to its end, without seeking.

        Raises:
            ValueError: it is a folder, pipe, socket or device. These are never opened.
            OSError: it cannot be opened. The message names it.
        """
        if not self.url:
            return self._open_local()
        try:
            filesystem, path = self.filesystem()
            if stream:
                return filesystem.open_input_stream(path, compression=None)
            return filesystem.open_input_file(path)
        except ImportError as error:
            raise ValueError(str(error)) from error
        except FileNotFoundError:
            raise FileNotFoundError(f"dsm_ext: no such file: {self.shown}") from None
        except Exception as error:  # file systems raise types of their own
            raise OSError(f"dsm_ext: {self.shown} cannot be opened: {reason(error)}") from error

    def read(self) -> bytes:
        """The content of a picture's file.

        Raises:
            ValueError: it is a folder, pipe, socket or device, or empty, or larger than ``MOST``.
            OSError: it cannot be read. The message names it.
        """
        with self.open(stream=True) as file:
            try:
                content = _content(file) if self.url else _local_content(file)
            except OverflowError as error:
                raise ValueError(
                    f"dsm_ext: {self.shown} is too large for a picture: expected at most {MOST} "
                    "bytes"
                ) from error
            except Exception as error:  # file systems raise types of their own
                raise OSError(f"dsm_ext: {self.shown} cannot be read: {reason(error)}") from error
        if not content:
            raise ValueError(f"dsm_ext: {self.shown} is empty")
        return content

    def _local_kind(self) -> str | None:
        try:
            return KINDS.get(stat.S_IFMT(os.stat(self.path).st_mode), "special file")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:  # ValueError: the path has a null byte
            raise _failure(error, self.shown) from error

    def _open_local(self) -> BinaryIO:
        try:
            self._check(os.stat(self.path).st_mode)
            # If a pipe took the file's place meanwhile, do not wait for its writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            file = os.fdopen(descriptor, "rb", buffering=0)
            try:
                self._check(os.fstat(descriptor).st_mode)
            except NotAFile:
                file.close()
                raise
            return file  # type: ignore[return-value]
        except NotAFile:
            raise
        except FileNotFoundError:
            raise FileNotFoundError(f"dsm_ext: no such file: {self.shown}") from None
        except (OSError, ValueError) as error:
            raise _failure(error, self.shown) from error

    def _check(self, mode: int) -> None:
        kind = KINDS.get(stat.S_IFMT(mode), "special file")
        if kind != "file":
            raise NotAFile(f"dsm_ext: expected {self.shown} to be a file, got a {kind}")


class NotAFile(ValueError):
    """A folder, pipe, socket or device is where a file is expected."""


def _failure(error: OSError | ValueError, shown: str) -> OSError | ValueError:
    """An error that names a place, of the same type. ValueError: the path has a null byte."""
    kind = type(error) if isinstance(error, OSError) else ValueError
    return kind(f"dsm_ext: {shown} cannot be opened: {reason(error)}")


def place_of(text: str) -> Place:
    """The place that a user's text names.

    Its name is the text without what does not change its meaning: "./" before it, "/" after it, and
    "//" or "/./" in it. So ``pictures``, ``./pictures`` and ``pictures/`` give the same keys.

    Raises:
        ValueError: an empty text, or a ``file://`` URL without an absolute path.
    """
    if not text:
        raise ValueError("dsm_ext: expected the path or URL of pictures, got an empty text")
    if not is_url(text):
        name = cleaned(text)
        return Place(name, os.path.join(os.getcwd(), name))
    scheme = URL.match(text)
    assert scheme is not None
    if "::" in text:  # a chain, such as zip://a.png::s3://bucket/b.zip
        return Place(text, "", text)
    if scheme[1].lower() == "file":
        return Place(text, open_filesystem(text)[1])
    options = OPTIONS.search(text) if scheme[1].lower() in ARROW else None
    name = text[: options.start()] if options else text
    name = text[: scheme.end()] + name[scheme.end() :].rstrip("/")
    authority, _, path = name[scheme.end() :].partition("/")
    root = text[: scheme.end()] + authority + "/"
    return Place(name, path, root + (options[0] if options else ""))


def cleaned(path: str) -> str:
    """A local path without what does not change its meaning. ".." stays: links may lead there."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."


def _join(name: str, path: str) -> str:
    """The name of what is at a path below a folder."""
    if name == ".":
        return path
    head, chain, tail = name.partition("::")
    if not (chain and is_url(name) and "://" in head):
        head, chain, tail = name, "", ""  # no chain, or one whose last part has the path
    return head + ("" if head.endswith("/") else "/") + path + chain + tail


@lru_cache(maxsize=64)
def _opened(url: str) -> tuple[FileSystem, str]:
    return open_filesystem(url)


def _local_content(file: BinaryIO) -> bytes:
    if os.fstat(file.fileno()).st_size > MOST:
        raise OverflowError
    return file.read()


def _content(file: BinaryIO) -> bytes:
    parts, size = [], 0
    while part := file.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > MOST:
            raise OverflowError
    return b"".join(parts)


def reason(error: Exception) -> str:
    """Why something failed, in words, without the path that the system adds."""
    strerror = error.strerror if isinstance(error, OSError) else None
    text = without_secrets(strerror or str(error) or type(error).__name__)
    return text.removeprefix("dsm_ext: ")
