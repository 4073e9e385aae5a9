"""Delayed Spatial Merging in plain PyTorch: the tests' oracle, and a peer in the benchmarks.

Nothing here uses the extension, unless a caller passes its operators to ``forward``. Letters: B
images, N tokens, C channels, H heads, D = C / H, P prefix tokens, G groups of T tokens. Source:
arXiv 2303.02331 (DSM), arXiv 2210.09461 (ToMe).
"""

from dsm_ext.reference.model import (
    forward,
    forward_features,
    forward_intermediates,
    forward_with_gradients,
    plain,
    trace,
)
from dsm_ext.reference.operators import (
    class_attention,
    match,
    merge,
    merge_metric,
    propose,
    select,
    unmerge,
    window_order,
)
from dsm_ext.reference.rotary import RotaryRule

__all__ = [
    "RotaryRule",
    "class_attention",
    "forward",
    "forward_features",
    "forward_intermediates",
    "forward_with_gradients",
    "match",
    "merge",
    "merge_metric",
    "plain",
    "propose",
    "select",
    "trace",
    "unmerge",
    "window_order",
]
