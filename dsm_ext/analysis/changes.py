"""Changes of a block's tokens: the one that merging makes, and noise of the same size."""

from __future__ import annotations

import torch
from torch import Tensor

from dsm_ext.ops import match, merge, unmerge


def merge_change(tokens: Tensor, keys: Tensor, r: int, prefix: int) -> Tensor:
    """What one global step of ``r`` tokens does to each token's value [B, N, C] float32.

    Every token gets the value of the merged token that holds it; the change is that value less the
    own one. Tokens that do not merge, and prefix tokens, change by 0.

    Args:
        tokens: [B, N, C] float32, where the block merges.
        keys: [B, N, D] float32, the mean of the keys over the heads.
    """
    destination = match(keys, r, prefix=prefix)
    size = torch.ones(tokens.shape[:2], device=tokens.device)
    merged, _ = merge(tokens.contiguous(), size, destination, tokens.shape[1] - r)
    return unmerge(merged, destination) - tokens


def noise_like(change: Tensor, prefix: int, seeds: list[int]) -> Tensor:
    """Gaussian noise on all patches whose norm in each picture is that of a change.

    Args:
        change: [B, N, C].
        prefix: so many first tokens get no noise.
        seeds: [B], one for each picture: noise does not depend on the batch that a picture is in.
    """
    noise = torch.zeros(change.shape)
    for row, seed in zip(noise[:, prefix:], seeds, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(seed))
    noise = noise.to(change.device, change.dtype)
    scale = lengths(change) / lengths(noise)
    return noise * scale[:, None, None].to(noise.dtype)


def lengths(values: Tensor) -> Tensor:
    """The norm of all values of each picture [B], float64. values: [B, ...]."""
    return values.flatten(1).double().norm(dim=1)
