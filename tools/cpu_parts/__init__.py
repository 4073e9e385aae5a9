"""Gives tests and benchmarks direct access to the fast path's matrix products and attention.

``make build`` compiles the module, by ``cmake --build build/cmake --target _cpu_parts``. The
environment variable DSM_EXT_BUILD_DIR can name another build folder.
"""

import importlib.util
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    """The compiled module, with ``PackedLinear`` and ``attention``.

    Raises:
        ImportError: the module is not compiled.
    """
    import torch  # noqa: F401  (loads the libraries that the module needs)

    import dsm_ext  # noqa: F401

    build = _ROOT / os.environ.get("DSM_EXT_BUILD_DIR", "build/cmake")
    for file in sorted((build / "tools" / "cpu_parts").glob(f"_cpu_parts{EXTENSION_SUFFIXES[0]}")):
        spec = importlib.util.spec_from_file_location("_cpu_parts", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    raise ImportError(f"tools/cpu_parts is not compiled in {build}; run: make build")
