"""The version that ``--version`` prints, read without importing the package or torch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def version() -> str:
    """Version, torch, CUDA and compiler in one line. This does not import the package.

    Raises:
        ImportError: the package is not installed, or its compiled part is not built.
    """
    package = importlib.util.find_spec("dsm_ext")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "_build_info.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location("_dsm_ext_build_info", file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.text()
    raise ImportError(
        "dsm_ext is not built: its _build_info.py is missing; in a checkout run: "
        f"{sys.executable} -m pip install --no-build-isolation -e ."
    )
