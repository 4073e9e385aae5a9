"""Pictures of which patches merged: each group in its mean colour, with outlines."""

from dsm_ext.drawing.groups import enlarge, to_image, visualize
from dsm_ext.drawing.sheets import filmstrip, sheet

__all__ = ["enlarge", "filmstrip", "sheet", "to_image", "visualize"]
