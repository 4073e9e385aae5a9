"""Imports the compiled part. If that fails, the error says why and which command repairs it.

Before the import, torch's minor version is compared with the one the library was built for, because
another one causes undefined symbols or worse. The name of the compiled file is checked too, because
Python ignores a file for another Python version and then reports a circular import.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        "dsm_ext needs torch, which is not installed; run: "
        f"{sys.executable} -m pip install 'torch>=2.11'"
    ) from error

MINIMUM_TORCH = (2, 11)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int(minor)


def _build_again(source: str) -> str:
    pip = f"{sys.executable} -m pip install"
    return f"build it again: {pip} --no-build-isolation --no-deps --force-reinstall {source}"


def check_torch(found: str, built: str, version: str, source: str) -> None:
    """Compare the installed torch with the one that the compiled part was built for.

    Raises:
        ImportError: the message names both versions and the command that repairs this.
    """
    if _minor(found) < MINIMUM_TORCH:
        least = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(
            f"dsm_ext {version} needs torch {least} or newer, but torch {found} is installed; "
            f"run: {sys.executable} -m pip install --upgrade 'torch>={least}'"
        )
    if _minor(found) != _minor(built):
        raise ImportError(
            f"dsm_ext {version} was built for torch {built}, but torch {found} is installed; "
            f"{_build_again(source)}"
        )


def check_module(
    folder: Path, version: str, source: str, suffixes: Sequence[str] = tuple(EXTENSION_SUFFIXES)
) -> None:
    """Check that a folder has a compiled module for the running Python.

    Args:
        suffixes: the endings of compiled modules that the running Python loads.

    Raises:
        ImportError: there is none, or only for another Python or processor. The message names both
            and the command that repairs this.
    """
    if any((folder / f"_C{suffix}").is_file() for suffix in suffixes):
        return
    others = sorted(path.name for path in folder.glob("_C.*") if path.suffix in (".so", ".pyd"))
    if not others:
        raise ImportError(
            f"dsm_ext {version} is not built: its compiled part, _C{suffixes[0]}, is missing in "
            f"{folder}; {_build_again(source)}"
        )
    running = "{}.{}".format(*sys.version_info)
    raise ImportError(
        f"dsm_ext {version} was built for {' and '.join(map(_python_of, others))}, but Python "
        f"{running} is running, which needs _C{suffixes[0]}; {_build_again(source)}"
    )


def _python_of(name: str) -> str:
    """The Python that a compiled module is for: Python 3.12 for "_C.cpython-312-...so"."""
    tag = name.split(".")[1]
    parts = tag.split("-")
    digits = parts[1].rstrip("tdm") if len(parts) > 1 else ""
    if parts[0] == "cpython" and digits.isdecimal():
        return f"Python {digits[0]}.{digits[1:]} ({name})"
    return f"another Python ({name})"


def load_error(error: BaseException, found: str, cuda: str | None, built: str) -> str:
    """The message if loading fails although torch has the right version.

    The usual cause is that torch was replaced by a build for another CUDA version or without CUDA.

    Args:
        error: the loader's error.
        found: the version of the installed torch.
        cuda: the CUDA version of the installed torch, or None.
        built: what the compiled part was built with.
    """
    return (
        f"the compiled part of dsm_ext cannot be loaded: {error}; it was built for {built}, and "
        f"torch {found}, {f'for CUDA {cuda}' if cuda else 'without CUDA'}, is installed"
    )


def _described_build() -> str:
    cuda = _build_info.TORCH_CUDA
    kernels = f", with kernels for CUDA {_build_info.CUDA}" if _build_info.CUDA else ""
    torch_cuda = f"for CUDA {cuda}" if cuda else "without CUDA"
    return f"Python {_build_info.PYTHON} and torch {_build_info.TORCH}, {torch_cuda}{kernels}"


try:
    from dsm_ext import _build_info
except ImportError as error:
    raise ImportError(
        "dsm_ext is not built: its compiled part is missing beside "
        f"{__file__}; in a checkout run: {sys.executable} -m pip install --no-build-isolation -e ."
    ) from error

check_module(Path(__file__).parent, _build_info.VERSION, _build_info.SOURCE)
check_torch(torch.__version__, _build_info.TORCH, _build_info.VERSION, _build_info.SOURCE)

try:
    from dsm_ext import _C
except ImportError as error:
    said = load_error(error, torch.__version__, torch.version.cuda, _described_build())
    raise ImportError(f"{said}; {_build_again(_build_info.SOURCE)}") from error

from dsm_ext._C import (  # noqa: E402
    BuildInfo,
    Config,
    Global,
    Local,
    MergeRule,
    ModelInfo,
    Plan,
    PlannedBlock,
    Preprocessing,
    Schedule,
    Step,
    build_info,
)

__version__ = _build_info.VERSION

__all__ = [
    "_C",
    "BuildInfo",
    "Config",
    "Global",
    "Local",
    "MergeRule",
    "ModelInfo",
    "Plan",
    "PlannedBlock",
    "Preprocessing",
    "Schedule",
    "Step",
    "__version__",
    "build_info",
]
