"""Pictures as a model's input: finding, labelling, decoding, preprocessing, batches."""

from dsm_ext.images.batches import Batches
from dsm_ext.images.labels import label_images
from dsm_ext.images.transform import Transform, transform_for
from dsm_ext_reader.decoding import read_image, to_rgb
from dsm_ext_reader.folders import find_images

__all__ = [
    "Batches",
    "Transform",
    "find_images",
    "label_images",
    "read_image",
    "to_rgb",
    "transform_for",
]
