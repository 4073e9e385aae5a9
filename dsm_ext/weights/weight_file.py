"""Reading weight files. The content decides the format, not the name's ending.

A file is read completely and never mapped into memory, so later changes of it have no effect.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext._native import _C
from dsm_ext.error_text import listed

# The first bytes of files of other kinds.
_OTHER_KINDS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"\x93NUMPY", "a single NumPy array"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_LONGEST_HEADER = 100_000_000  # bytes. safetensors refuses longer ones


def read_weight_file(path: str | os.PathLike[str]) -> Any:
    """Read a file's content to the CPU: a dict of tensors, or whatever ``torch.save`` wrote.

    Pickles are read with ``weights_only``: tensors, plain containers and ``argparse.Namespace``.

    Raises:
        FileNotFoundError: the file does not exist, or is a folder.
        ValueError: the file cannot be read. The message names the file, its kind and a remedy.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        start = file.read(512)
    kind = _kind(start)
    if kind == "safetensors" or (kind == "unknown" and path.suffix == ".safetensors"):
        return _read_safetensors(path)
    if kind in ("zip", "pickle"):
        return _read_torch(path, kind)
    if kind == "unknown":
        kind = (
            f"it begins with {start[:16]!r}; expected a .safetensors, .pt or .pth file, or another "
            "that torch.save wrote"
        )
    raise fault(path, kind)


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Check that a path is a file's, and return it.

    Raises:
        FileNotFoundError: the file does not exist, or is a folder.
        TypeError: not a path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"dsm_ext: expected the path of a weight file, got a {type(path).__name__}; a state "
            "dict in memory goes into timm's model with its load_state_dict"
        )
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(
            f"dsm_ext: no such weight file: {path} is a folder. dsm_ext.load reads folders that "
            "export wrote, dsm_ext.from_transformers those of transformers"
        )
    if not path.is_file():
        raise FileNotFoundError(f"dsm_ext: no such weight file: {path}")
    return path


def is_numpy_archive(path: Path) -> bool:
    """Whether the file is an archive of NumPy arrays (.npz)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def fault(path: Path, found: str) -> ValueError:
    """Make the error for a file that cannot be read."""
    expected = "a safetensors file" if path.suffix == ".safetensors" else "a file of weights alone"
    return ValueError(f"dsm_ext: {path} is not {expected}: {found}")


def _kind(start: bytes) -> str:
    if not start:
        return "it is empty (0 bytes)"
    for magic, name in _OTHER_KINDS:
        if start.startswith(magic):
            return f"it is {name}"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start.startswith(b"\x80"):
        return "pickle"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        return "it is an HTML or XML page, as servers send in place of a file: download it again"
    if text.startswith((b"{", b"[")):
        return "it is JSON text"
    if start[257:262] == b"ustar":
        return "it is a tar archive: unpack it first"
    return "unknown"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(_C.read_safetensors(str(path)))
    except ValueError as error:
        raise fault(path, str(error).removeprefix(f"dsm_ext: {path}: ")) from error


def _read_torch(path: Path, kind: str) -> Any:
    if kind == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError) as error:
            raise fault(path, "it is cut short or damaged") from error
        if any(name.endswith("/constants.pkl") for name in names):
            raise fault(
                path,
                "it is a TorchScript archive; save its weights: "
                "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
            )
        if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
            raise fault(path, f"it is a zip archive of {listed(names, 4)}")
    try:
        # Pass an open file. Given a path, torch would judge the file by the ending of its name.
        with _namespace_allowed(), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except MemoryError:
        raise
    except Exception as error:  # unpickling unknown bytes raises many types
        raise fault(path, _pickle_fault(path, error)) from error


def _namespace_allowed() -> contextlib.AbstractContextManager[Any]:
    """Allow ``argparse.Namespace``: timm's and DeiT's scripts save their arguments in it."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return contextlib.nullcontext()  # the caller allowed it. Leaving safe_globals would undo it
    return torch.serialization.safe_globals([argparse.Namespace])


def _pickle_fault(path: Path, error: Exception) -> str:
    foreign = re.findall(r"GLOBAL ([\w.]+)", str(error))
    with contextlib.suppress(Exception):  # the function works only for zip files
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) or foreign
    foreign = [name for name in foreign if name != "argparse.Namespace"]
    if foreign:
        return (
            f"it holds other objects than tensors, which are not loaded because loading them runs "
            f"code: {listed(dict.fromkeys(foreign), 4)}; if you trust the file, load it with "
            "torch.load(FILE, weights_only=False) and save its weights alone: "
            "torch.save(model.state_dict(), NEW)"
        )
    if isinstance(error, EOFError) or "failed finding central directory" in str(error):
        return "it is cut short or damaged"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
