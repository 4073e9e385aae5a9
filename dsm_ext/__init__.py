"""Delayed Spatial Merging: Vision Transformers made faster with no training.

The whole forward is one call into a compiled module; ``dsm_ext.reference`` is the same computation
in plain PyTorch. Source: arXiv 2303.02331.
"""

from pathlib import Path as _Path

from dsm_ext._native import (
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
    __version__,
    build_info,
)
from dsm_ext.export import export, load, model_info
from dsm_ext.from_timm import from_timm
from dsm_ext.from_transformers import from_transformers
from dsm_ext.model import Intermediate, Outputs, Trace, VisionTransformer
from dsm_ext.ops import match, merge, unmerge
from dsm_ext.pictures import visualize

cmake_prefix_path = str(_Path(__file__).parent)
"""For CMake's CMAKE_PREFIX_PATH: find_package(dsm_ext CONFIG REQUIRED) gives dsm_ext::dsm_ext."""

__all__ = [
    "BuildInfo",
    "Config",
    "Global",
    "Intermediate",
    "Local",
    "ModelInfo",
    "Outputs",
    "Plan",
    "PlannedBlock",
    "Preprocessing",
    "Schedule",
    "Step",
    "Trace",
    "VisionTransformer",
    "__version__",
    "build_info",
    "cmake_prefix_path",
    "export",
    "from_timm",
    "from_transformers",
    "load",
    "match",
    "merge",
    "model_info",
    "unmerge",
    "visualize",
]
