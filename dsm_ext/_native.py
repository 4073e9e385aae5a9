"""Imports the compiled part, or says what is wrong and what mends it.

A library built against one minor version of torch fails in another with an undefined symbol, or
worse: so the versions are compared before it is loaded.
"""

from __future__ import annotations

import torch

MINIMUM_TORCH = (2, 11)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int(minor)


def check_torch(found: str, built: str, version: str, source: str) -> None:
    """Compare the installed torch with the one the compiled part was built for.

    Raises:
        ImportError: naming both versions and the command that mends it.
    """
    if _minor(found) < MINIMUM_TORCH:
        least = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(
            f"dsm_ext {version} needs torch {least} or newer, but torch {found} is installed; "
            f"run: pip install --upgrade 'torch>={least}'"
        )
    if _minor(found) != _minor(built):
        raise ImportError(
            f"dsm_ext {version} was built for torch {built}, but torch {found} is installed; "
            f"build it again: pip install --no-build-isolation --no-deps --force-reinstall {source}"
        )


try:
    from dsm_ext import _build_info
except ImportError as error:
    raise ImportError(
        "dsm_ext is not built: its compiled part is missing beside "
        f"{__file__}; in a checkout run: pip install --no-build-isolation -e ."
    ) from error

check_torch(torch.__version__, _build_info.TORCH, _build_info.VERSION, _build_info.SOURCE)

from dsm_ext import _C  # noqa: E402
from dsm_ext._C import (  # noqa: E402
    BuildInfo,
    Config,
    Global,
    Local,
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
    "ModelInfo",
    "Plan",
    "PlannedBlock",
    "Preprocessing",
    "Schedule",
    "Step",
    "__version__",
    "build_info",
]
