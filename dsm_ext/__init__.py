"""Delayed Spatial Merging: Vision Transformers made faster with no training.

The whole forward is one call into a compiled module; ``dsm_ext.reference`` is the same computation
in plain PyTorch. Source: arXiv 2303.02331.
"""

from dsm_ext._native import Config, Global, Local, Plan, PlannedBlock, Schedule, Step, __version__
from dsm_ext.export import export, load
from dsm_ext.from_timm import from_timm
from dsm_ext.from_transformers import from_transformers
from dsm_ext.model import Intermediate, Trace, VisionTransformer
from dsm_ext.ops import match, merge, unmerge
from dsm_ext.pictures import visualize

__all__ = [
    "Config",
    "Global",
    "Intermediate",
    "Local",
    "Plan",
    "PlannedBlock",
    "Schedule",
    "Step",
    "Trace",
    "VisionTransformer",
    "__version__",
    "export",
    "from_timm",
    "from_transformers",
    "load",
    "match",
    "merge",
    "unmerge",
    "visualize",
]
