"""Locations of tokens, and the rotation of queries and keys by them (timm's ``Eva``).

A location is (row, column) in patches, measured from the top left corner of the picture: the centre
of the patch in row i and column j is at (i + 0.5, j + 0.5). A merged token is rotated as a patch at
its location would be. Source of the rotations: timm's layers/pos_embed_sincos.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class RotaryRule(NamedTuple):
    """How rotary models merge. Other values than the defaults are for experiments.

    metric: "rotated" compares tokens by the keys that attention uses, "unrotated" by the keys
        before the rotation.
    location: "centroid" puts a merged token at the mean of the locations, weighted by size;
        "destination" leaves it at the location of the token that the others were merged into.
    """

    metric: str = "rotated"
    location: str = "centroid"


def initial_locations(grid: tuple[int, int], prefix: int, like: Tensor) -> Tensor:
    """The locations [B, N, 2] before any merge, for tokens [B, N, C].

    They are on the tokens' device, in float64 for tokens in float64, else in float32. Prefix tokens
    have no location: NaN.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    rows, columns = (torch.arange(n, device=like.device, dtype=dtype) + 0.5 for n in grid)
    patches = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
    none = torch.full((prefix, 2), math.nan, device=like.device, dtype=dtype)
    return torch.cat([none, patches])[None].expand(like.shape[0], -1, -1)


def angles(model: Any, location: Tensor, grid: tuple[int, int], block: int) -> Tensor:
    """The angles of the rotations, in radians.

    Args:
        model: timm's ``Eva`` with a ``rope``.
        location: [B, N, 2] of grid tokens.
        grid: the rows and columns of the patches of the image.
        block: the index of the block. Only "mixed" rotations depend on it.

    Returns:
        [B, H, N, D / 2] for "mixed" rotations, else [B, 1, N, D / 2].
    """
    rope = model.rope
    if hasattr(rope, "freqs"):
        u = _first_axis_first(rope, location - 0.5)
        freqs = rope.freqs[:, block].to(u.dtype)  # [2, H, D / 2]
        return (u[:, None, :, :, None] * freqs.transpose(0, 1)[:, None]).sum(-2)
    sides = location.new_tensor(grid)
    bands = torch.arange(rope.dim // 4, device=location.device, dtype=location.dtype)
    if hasattr(rope, "periods"):
        u = 2 * (location + rope.grid_offset) / sides - 1
        freqs = 2 * math.pi / rope.temperature ** (2 * bands / (rope.dim // 2))
    else:
        u = location - 0.5 + rope.grid_offset
        if rope.ref_feat_shape is not None:
            u = u / sides * location.new_tensor(rope.ref_feat_shape)
        freqs = 1.0 / rope.temperature ** (bands / (rope.dim // 4))
    u = _first_axis_first(rope, u)
    return (u[..., None] * freqs).flatten(-2)[:, None]


def _first_axis_first(rope: Any, u: Tensor) -> Tensor:
    """Coordinates [B, N, 2] in the order of the rotation's axes: (column, row) for "xy"."""
    return u.flip(-1) if rope.grid_indexing == "xy" else u


def rotate(x: Tensor, angles: Tensor, half: bool) -> Tensor:
    """Rotate pairs of channels.

    Args:
        x: [B, H, N, D].
        angles: [B, H or 1, N, D / 2], in radians.
        half: pairs are channels i and i + D / 2, else channels 2i and 2i + 1.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, -1) if half else (x[..., ::2], x[..., 1::2])
    pair = (a * cos - b * sin, b * cos + a * sin)
    out = torch.cat(pair, -1) if half else torch.stack(pair, -1).flatten(-2)
    return out.to(x.dtype)


def rotate_grid(x: Tensor, angles: Tensor, half: bool) -> Tensor:
    """Rotate the last tokens of x [B, H, N, D], as many as there are angles; not the prefix."""
    prefix = x.shape[2] - angles.shape[2]
    return torch.cat([x[:, :, :prefix], rotate(x[:, :, prefix:], angles, half)], 2)
