"""Delayed Spatial Merging: Vision Transformers made faster with no training.

The whole forward is one call into a compiled module. ``dsm_ext.reference`` is the same computation
in plain PyTorch. Source: arXiv 2303.02331.
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from dsm_ext._native import (
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
    __version__,
    build_info,
)
from dsm_ext.model import Intermediate, Outputs, Trace, VisionTransformer
from dsm_ext.model.export import export
from dsm_ext.model.load import load, model_info
from dsm_ext.open_clip_models.from_open_clip import from_open_clip
from dsm_ext.ops import match, merge, unmerge
from dsm_ext.timm_models.from_timm import from_timm
from dsm_ext.transformers_models.from_transformers import from_transformers

if _TYPE_CHECKING:
    from dsm_ext.analysis.analyze import analyze
    from dsm_ext.pictures import visualize
    from dsm_ext.predict.predictor import Predictor
    from dsm_ext.tuning.tune import tune

# timm and Pillow take longer to import than torch, and a program that serves a model needs neither.
# So the modules above import them inside functions. The modules below are imported on first use.
_LATER = {
    "Predictor": "dsm_ext.predict.predictor",
    "analyze": "dsm_ext.analysis.analyze",
    "tune": "dsm_ext.tuning.tune",
    "visualize": "dsm_ext.pictures",
}
_LATER_MODULES = (
    "evaluate",
    "images",
    "pictures",
    "reference",
    "timm_features",
)

cmake_prefix_path = str(_Path(__file__).parent)
"""For CMake's CMAKE_PREFIX_PATH: find_package(dsm_ext CONFIG REQUIRED) gives dsm_ext::dsm_ext."""

__all__ = [
    "BuildInfo",
    "Config",
    "Global",
    "Intermediate",
    "Local",
    "MergeRule",
    "ModelInfo",
    "Outputs",
    "Plan",
    "PlannedBlock",
    "Predictor",
    "Preprocessing",
    "Schedule",
    "Step",
    "Trace",
    "VisionTransformer",
    "__version__",
    "analyze",
    "build_info",
    "cmake_prefix_path",
    "export",
    "from_open_clip",
    "from_timm",
    "from_transformers",
    "load",
    "match",
    "merge",
    "model_info",
    "tune",
    "unmerge",
    "visualize",
]


def __getattr__(name: str) -> _Any:
    from importlib import import_module

    if name in _LATER_MODULES:
        return import_module(f"dsm_ext.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_LATER_MODULES})
