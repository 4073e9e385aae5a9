"""Pictures of which patches merged, and of what a model looks at."""

from dsm_ext.drawing.attention import attention_map, attention_strip
from dsm_ext.drawing.paint import enlarge, to_image, visualize
from dsm_ext.drawing.sheets import filmstrip, sheet

__all__ = [
    "attention_map",
    "attention_strip",
    "enlarge",
    "filmstrip",
    "sheet",
    "to_image",
    "visualize",
]
