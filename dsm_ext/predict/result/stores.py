"""Where a result is: a local folder, or a folder of another file system, and its few operations."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from pyarrow import fs

from dsm_ext_reader.filesystems import is_url, open_filesystem, without_secrets

# A file system that cannot lock answers so, such as some network file systems.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class Store(Protocol):
    """A folder. Errors are OSErrors whose messages name the file.

    ``create`` and ``finish`` write a file, which is then safe on the disk. ``rename`` replaces a
    file of the new name at once. ``place`` is where other processes find the folder.
    """

    def path(self, name: str) -> str: ...
    def make(self) -> None: ...
    def names(self) -> list[str]: ...
    def create(self, name: str) -> BinaryIO: ...
    def finish(self, file: BinaryIO, name: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def remove(self, name: str) -> None: ...
    def open(self, name: str) -> BinaryIO: ...
    def lock(self, name: str) -> Any: ...
    def place(self) -> tuple[fs.FileSystem, str]: ...


def open_store(out: str | os.PathLike) -> Store:
    """The store of a local path or of a URL that ``open_filesystem`` opens.

    Raises:
        ValueError, ImportError, OSError: as ``open_filesystem``.
    """
    if not is_url(out):
        return LocalStore(os.fspath(out))
    filesystem, folder = open_filesystem(out)
    return store_in(filesystem, folder, without_secrets(os.fspath(out)))


def store_in(filesystem: fs.FileSystem, folder: str, name: str | None = None) -> Store:
    """The store of a folder of a file system. ``name``: what messages call the folder."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalStore(folder)
    return RemoteStore(filesystem, folder, name or folder)


class LocalStore:
    """A folder of this machine, or one that is mounted. Its files survive a loss of power."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def make(self) -> None:
        with plain_errors(self.folder, "created"):
            os.makedirs(self.folder, exist_ok=True)

    def names(self) -> list[str]:
        with plain_errors(self.folder, "listed"):
            return sorted(os.listdir(self.folder))

    def create(self, name: str) -> BinaryIO:
        with plain_errors(self.path(name), "written"):
            return open(self.path(name), "xb")

    def finish(self, file: BinaryIO, name: str) -> None:
        with plain_errors(self.path(name), "written"), file:
            file.flush()
            os.fsync(file.fileno())

    def rename(self, old: str, new: str) -> None:
        with plain_errors(self.path(new), "written"):
            os.replace(self.path(old), self.path(new))
            self._keep_names()

    def remove(self, name: str) -> None:
        with plain_errors(self.path(name), "deleted"):
            os.unlink(self.path(name))
            self._keep_names()

    def open(self, name: str) -> BinaryIO:
        with plain_errors(self.path(name), "read"):
            return open(self.path(name), "rb")

    def lock(self, name: str) -> Any:
        """Lock the folder by a lock that the kernel releases when this process ends in any way.

        Returns:
            The open file: closing it releases the lock. None where the file system has no locks.

        Raises:
            BlockingIOError: another process, or this one, has the lock.
        """
        with plain_errors(self.path(name), "locked"):
            descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                holder = file.read(200).decode("utf-8", "replace").strip()
            raise BlockingIOError(
                f"dsm_ext: another run writes to {self.folder}{holder and f' ({holder})'}: wait "
                "for its end, or take another -o"
            ) from None
        except OSError as error:
            file.close()
            if error.errno in NO_LOCKS:
                return None
            raise OSError(
                f"dsm_ext: {self.path(name)} cannot be locked: {error.strerror}"
            ) from error
        with plain_errors(self.path(name), "written"):
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            file.flush()
        return file

    def place(self) -> tuple[fs.FileSystem, str]:
        return fs.LocalFileSystem(), os.path.join(os.getcwd(), self.folder)

    def _keep_names(self) -> None:
        """Write the folder itself to the disk: a file's new name is there."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class RemoteStore:
    """A folder of one of pyarrow's file systems. It cannot be locked."""

    def __init__(self, filesystem: fs.FileSystem, folder: str, name: str) -> None:
        self.filesystem, self.folder = filesystem, folder.rstrip("/")
        self._name = name.rstrip("/")

    def path(self, name: str) -> str:
        return f"{self._name}/{name}"

    def make(self) -> None:
        with plain_errors(self._name, "created"):
            self.filesystem.create_dir(self.folder, recursive=True)

    def names(self) -> list[str]:
        with plain_errors(self._name, "listed"):
            chosen = fs.FileSelector(self.folder, allow_not_found=True)
            names = (info.base_name for info in self.filesystem.get_file_info(chosen))
            return sorted(name for name in names if name)

    def create(self, name: str) -> BinaryIO:
        with plain_errors(self.path(name), "written"):
            return self.filesystem.open_output_stream(self._inside(name))

    def finish(self, file: BinaryIO, name: str) -> None:
        with plain_errors(self.path(name), "written"):
            file.close()

    def rename(self, old: str, new: str) -> None:
        with plain_errors(self.path(new), "written"):
            try:
                self.filesystem.move(self._inside(old), self._inside(new))
            except NotImplementedError:  # Azure's flat namespaces
                self.filesystem.copy_file(self._inside(old), self._inside(new))
                self.filesystem.delete_file(self._inside(old))

    def remove(self, name: str) -> None:
        with plain_errors(self.path(name), "deleted"):
            self.filesystem.delete_file(self._inside(name))

    def open(self, name: str) -> BinaryIO:
        with plain_errors(self.path(name), "read"):
            return self.filesystem.open_input_file(self._inside(name))

    def lock(self, name: str) -> Any:
        return None

    def place(self) -> tuple[fs.FileSystem, str]:
        return self.filesystem, self.folder

    def _inside(self, name: str) -> str:
        return f"{self.folder}/{name}"


@contextlib.contextmanager
def plain_errors(path: str, done: str) -> Iterator[None]:
    """Name the file in the message of an OSError, and keep its type."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or without_secrets(str(error))
        message = f"dsm_ext: {path} cannot be {done}: {reason}"
        try:
            plain = type(error)(message)
        except TypeError:  # a class of another package's, which takes other arguments
            plain = OSError(message)
        raise plain from error
