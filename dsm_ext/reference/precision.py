"""Layers and attention that round their operands to bfloat16 or int8, in plain PyTorch.

They round where the CPU's fast path does. All other arithmetic is in the model's dtype, float32 or
float64. int8: each row of a layer's input is whole numbers in [0, 255] times a step, after a zero
point is subtracted; each output channel of its weight is whole numbers in [-127, 127] times a
scale. In both precisions attention multiplies bfloat16, so does the patch embedding, and the head
multiplies the model's dtype.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRECISIONS = ("float32", "bfloat16", "int8")
# A row or channel whose values span less counts as zeros: its step would be too small a number.
LEAST_SPAN = 1e-30


def to_bfloat16(x: Tensor) -> Tensor:
    """Round to the values of bfloat16, ties to even. The dtype stays."""
    return x.to(torch.bfloat16).to(x.dtype)


def stored(x: Tensor, precision: str) -> Tensor:
    """Queries, keys and values as attention reads them: in bfloat16 unless all is float32."""
    return x if precision == "float32" else to_bfloat16(x)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round the rows of x [..., K] to 8 bits.

    Returns:
        Whole numbers [..., K], from -255 to 255, in which the zero point is subtracted already, and
        the steps [..., 1]: x is about their product. The step of a row of zeros is 0, that of a row
        with NaN or infinity is NaN.
    """
    low = x.amin(-1, keepdim=True).clamp(max=0)
    span = x.amax(-1, keepdim=True).clamp(min=0) - low
    steps = 255 / span  # in a difference of 1
    zero = (-low * steps).round()
    whole = ((x * steps).round() + zero).clamp(0, 255) - zero
    return _checked(whole, span / 255, span)


def round_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight [outputs, K] to whole numbers [outputs, K] times scales [outputs, 1]."""
    largest = weight.abs().amax(-1, keepdim=True)
    return _checked((weight * (127 / largest)).round(), largest / 127, largest)


def _checked(whole: Tensor, scale: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """Correct rows that have no value to scale by: zeros, and rows with NaN or infinity."""
    zero, finite = span < LEAST_SPAN, span.isfinite()
    scale = torch.where(zero, 0.0, torch.where(finite, scale, math.nan))
    return torch.where(zero | ~finite, 0.0, whole), scale


class RoundedLinear(nn.Module):
    """A linear layer that rounds its input and its weight [outputs, inputs]."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: str) -> None:
        super().__init__()
        self.weight, self.bias, self.precision = weight, bias, precision

    def forward(self, x: Tensor) -> Tensor:
        if self.precision == "bfloat16":
            return F.linear(to_bfloat16(x), to_bfloat16(self.weight), self.bias)
        (rows, step), (channels, scale) = round_rows(x), round_channels(self.weight)
        sums = rows.double() @ channels.double().t()  # whole numbers below 2**53: exact
        out = sums.to(x.dtype) * step * scale[:, 0]
        return out if self.bias is None else out + self.bias


class RoundedPatches(nn.Module):
    """A patch embedding that rounds its operands to bfloat16."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        conv.weight.data = to_bfloat16(conv.weight.data)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(to_bfloat16(images))


class StoringNorm(nn.Module):
    """A norm of values that were stored in bfloat16."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(to_bfloat16(x))


def rounding_copy(model: Any, precision: str) -> Any:
    """A copy of a timm model whose layers round their operands; float32: the model itself."""
    if precision not in PRECISIONS:
        raise ValueError(
            "dsm_ext.reference: expected precision to be float32, bfloat16 or int8, got "
            f"{precision}"
        )
    if precision == "float32":
        return model
    model = copy.deepcopy(model)
    for block in model.blocks:
        if not hasattr(block, "in_proj"):
            for branch, layer in ((1, block.attn.proj), (2, block.mlp.fc2)):
                _fold(block, branch, layer)
    model.patch_embed.proj = RoundedPatches(model.patch_embed.proj)
    _replace(model.blocks, precision)
    if model.attn_pool is not None:
        query = model.attn_pool.q  # its input is constant, so that no call computes it
        _replace(model.attn_pool, precision)
        model.attn_pool.q = query
    return model


def _fold(block: Any, branch: int, layer: nn.Linear) -> None:
    """Multiply LayerScale's factors into the layer before it."""
    if hasattr(block, "ls1"):
        gamma = getattr(getattr(block, f"ls{branch}"), "gamma", None)
        setattr(block, f"ls{branch}", nn.Identity())
    else:  # EvaBlock
        gamma = getattr(block, f"gamma_{branch}")
        setattr(block, f"gamma_{branch}", None)
    if gamma is None:
        return
    layer.weight.data *= gamma[:, None]
    if layer.bias is not None:
        layer.bias.data *= gamma


def _replace(part: nn.Module, precision: str) -> None:
    for parent in list(part.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, RoundedLinear(layer.weight, layer.bias, precision))
            elif precision == "bfloat16" and name == "norm" and hasattr(parent, "fc2"):
                parent.norm = StoringNorm(layer)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, precision: str) -> Tensor:
    """Attention [B, H, N, D] with a bias of the scores.

    Unless the precision is float32, operands and output have the values of bfloat16, and the
    weights are rounded before they are divided by their sum.
    """
    if precision == "float32":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores if bias is None else scores + bias
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return to_bfloat16(to_bfloat16(weights) @ v / weights.sum(-1, keepdim=True))
