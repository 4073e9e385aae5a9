"""What the methods of ``VisionTransformer`` return."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Trace(NamedTuple):
    """What ``VisionTransformer.trace`` returns."""

    logits: Tensor
    """[B, num_classes], as ``forward`` returns them."""
    source: Tensor
    """[B, gh * gw] int32: the index of the token that holds each patch at the end."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""
    location: Tensor
    """[B, M, 2] float32: (row, column) of each token in patches from the image's top left corner:
    the mean of the centres of its patches. Prefix tokens have NaN."""


class Outputs(NamedTuple):
    """What ``VisionTransformer.forward_with_features`` returns."""

    logits: Tensor
    """[B, num_classes], as ``forward`` returns them."""
    pooled: Tensor
    """[B, C]: the input of the head."""
    features: Tensor
    """[B, M, C], as ``forward_features`` returns them."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""


class Intermediate(NamedTuple):
    """The tokens after one block."""

    tokens: Tensor
    """[B, M, C] in the model's dtype, prefix tokens first."""
    source: Tensor
    """[B, gh * gw] int32: the index of the token that holds each patch."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""
