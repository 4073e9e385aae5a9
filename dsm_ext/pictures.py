"""Pictures of which patches merged: the patches of each token in their mean colour."""

from dsm_ext.drawing.paint import enlarge, to_image, visualize
from dsm_ext.drawing.sheets import filmstrip, sheet

__all__ = ["enlarge", "filmstrip", "sheet", "to_image", "visualize"]
