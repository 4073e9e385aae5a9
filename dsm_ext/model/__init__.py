"""The compiled model: its class, its parts, and what its files say about pictures and classes."""

from dsm_ext.model.outputs import Intermediate, Outputs, Trace
from dsm_ext.model.vision_transformer import VisionTransformer

__all__ = ["Intermediate", "Outputs", "Trace", "VisionTransformer"]
