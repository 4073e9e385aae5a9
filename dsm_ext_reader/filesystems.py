"""Opening the file system that a path or a URL belongs to."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:  # pyarrow takes a while to import, and decoding workers may not need it
    from pyarrow.fs import FileSystem

# zip://a.png::s3://bucket/b.zip and simplecache::s3://bucket/a.png are chains, which fsspec opens.
URL = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
ARROW = {"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"}
OPTIONS = re.compile(r"\?\w+=[^&=?]*(?:&\w+=[^&=?]*)*$")
SECRET = re.compile(r"(?<=://)[^/@:]+:[^/@]+(?=@)")


def is_url(text: str | bytes | os.PathLike) -> bool:
    """Whether ``open_filesystem`` takes a text as a URL, and not as a local path."""
    return isinstance(text, str) and URL.match(text) is not None


def open_filesystem(uri: str | bytes | os.PathLike) -> tuple[FileSystem, str]:
    """Open the file system of a path or URL.

    A text without a scheme and ``://`` is a local path, whatever else is in it; so are bytes and
    path objects. ``file://`` URLs are local paths too, with ``%NN`` for odd characters. pyarrow
    opens s3, gs, abfs and hdfs; fsspec opens all other schemes and chained URLs. In these, a path
    is taken as it is, without decoding ``%NN``, as ``aws s3`` does. pyarrow's options may follow:
    ``s3://bucket/folder?region=eu-west-1``.

    Returns:
        The file system, and the path in it. A local path is absolute; pyarrow cannot use one that
        is not UTF-8.

    Raises:
        ValueError: no known scheme, or a URL that is not as its scheme expects.
        ImportError: the package for the scheme is not installed. The message names it.
        OSError: the file system does not answer.
    """
    text = os.fsdecode(uri)
    match = URL.match(text) if isinstance(uri, str) else None
    if match is None:
        return _local(text)
    scheme = match[1].lower()
    chained = "::" in text
    try:
        if scheme == "file" and not chained:
            return _local(_path_of_file_url(text))
        if scheme in ARROW and not chained:
            return _arrow(text, match.end())
        return _fsspec(text)
    except ImportError as error:
        raise ImportError(_failure(text, error)) from error
    except (ValueError, NotImplementedError) as error:
        raise ValueError(_failure(text, error)) from error
    except OSError as error:
        raise type(error)(_failure(text, error)) from error


def without_secrets(text: str) -> str:
    """A URL without the user and password in it."""
    return SECRET.sub("...", text)


def _failure(text: str, error: Exception) -> str:
    return f"dsm_ext: {without_secrets(text)} cannot be opened: {without_secrets(str(error))}"


def _local(path: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import LocalFileSystem

    # pyarrow refuses a relative path that looks like a URL. os.path.abspath would also drop "..",
    # which names another folder after a link.
    return LocalFileSystem(), path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _path_of_file_url(text: str) -> str:
    path = text[len("file://") :].removeprefix("localhost")
    if not path.startswith("/"):
        raise ValueError("expected an absolute path after file://, as in file:///folder")
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))


def _arrow(text: str, start: int) -> tuple[FileSystem, str]:
    """Open a file system of pyarrow's. ``start``: where the text goes on after ``scheme://``."""
    options = OPTIONS.search(text)
    whole = text[: options.start()] if options else text
    authority, _, path = whole[start:].partition("/")
    filesystem, base = _opened(text[:start] + authority + (options[0] if options else ""))
    return filesystem, "/".join(part for part in (base.rstrip("/"), path) if part) or base


@lru_cache(maxsize=64)  # opening asks an S3 bucket for its region
def _opened(uri: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    return FileSystem.from_uri(uri)


def _fsspec(text: str) -> tuple[FileSystem, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ImportError("this needs a package: pip install fsspec") from None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    filesystem, path = url_to_fs(text)
    return PyFileSystem(FSSpecHandler(filesystem)), path
