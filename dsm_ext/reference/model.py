"""The forward of timm's models with merge steps, in plain PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsm_ext.reference.blocks import attention, parallel_block, scaled
from dsm_ext.reference.head import head
from dsm_ext.reference.operators import class_attention, merge_metric
from dsm_ext.reference.precision import rounding_copy
from dsm_ext.reference.rotary import RotaryRule, angles, initial_locations
from dsm_ext.reference.steps import TokenState, run_steps

_DEFAULT = RotaryRule()


class PlainStep(NamedTuple):
    r: int
    window: int


class PlainRule(NamedTuple):
    metric: str = "keys"
    protect: float = 0.0


@dataclass(frozen=True)
class PlainSchedule:
    blocks: tuple[tuple[PlainStep, ...], ...]
    proportional: bool
    rule: PlainRule

    def __iter__(self) -> Iterator[Any]:
        return iter(self.blocks)


def plain(schedule: Any) -> PlainSchedule:
    """Copy a schedule into plain Python values, which torch.compile can trace."""
    blocks = tuple(tuple(PlainStep(s.r, s.window) for s in steps) for steps in schedule)
    rule = PlainRule(schedule.rule.metric, schedule.rule.protect)
    return PlainSchedule(blocks, schedule.proportional, rule)


def forward_with_gradients(
    model: Any,
    images: Tensor,
    schedule: Any,
    ops: Any = None,
    precision: str = "float32",
    rotary: RotaryRule = _DEFAULT,
) -> Tensor:
    """Logits [B, classes] of a timm model under a schedule, with their gradients.

    The choice of the pairs has no gradient: for one it is constant. To take derivatives of
    derivatives, choose PyTorch's plain attention: ``torch.nn.attention.sdpa_kernel``.

    Args:
        model: a timm ``VisionTransformer`` made of ``Block`` or ``ParallelScalingBlock``, a
            distilled DeiT, or an ``Eva`` made of ``EvaBlock``, in eval mode.
        images: [B, channels, height, width] in the model's dtype, on its device.
        schedule: a ``dsm_ext.Schedule``, or an iterable of each block's steps, which have ``r`` and
            ``window`` (0: global).
        ops: the module whose ``match`` and ``merge`` are called, for example ``dsm_ext``; None:
            ``dsm_ext.reference``. ``torch.compile`` and ``torch.export`` can trace both, with a
            schedule from ``plain``.
        precision: "bfloat16" and "int8" round where the CPU's fast path does, for a model in
            float32 or float64; see ``dsm_ext.reference.precision``.
        rotary: other ways to merge in rotary models, for experiments; see ``RotaryRule``.
    """
    model = rounding_copy(model, precision)
    state = _run(model, images, schedule, precision, ops=ops, rotary=rotary)
    return head(model, state.x, state.size, schedule, precision)


@torch.no_grad()
def forward(
    model: Any,
    images: Tensor,
    schedule: Any,
    ops: Any = None,
    precision: str = "float32",
    rotary: RotaryRule = _DEFAULT,
) -> Tensor:
    """As ``forward_with_gradients``, without gradients."""
    return forward_with_gradients(model, images, schedule, ops, precision, rotary)


@torch.no_grad()
def forward_features(
    model: Any, images: Tensor, schedule: Any, precision: str = "float32"
) -> Tensor:
    """The remaining tokens [B, M, C], after the last norm."""
    return model.norm(_run(rounding_copy(model, precision), images, schedule, precision).x)


@torch.no_grad()
def trace(
    model: Any,
    images: Tensor,
    schedule: Any,
    precision: str = "float32",
    rotary: RotaryRule = _DEFAULT,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, source map [B, gh * gw], sizes [B, M] and locations [B, M, 2].

    A location is (row, column) in patches, in float32, or in float64 for a model in float64; NaN
    for prefix tokens.
    """
    model = rounding_copy(model, precision)
    state = _run(model, images, schedule, precision, rotary=rotary, locate=True)
    logits = head(model, state.x, state.size, schedule, precision)
    assert state.location is not None
    return logits, state.source, state.size, state.location


@torch.no_grad()
def forward_intermediates(
    model: Any,
    images: Tensor,
    schedule: Any,
    blocks: Sequence[int],
    precision: str = "float32",
    ops: Any = None,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """After each of the given blocks: tokens [B, M, C] before any norm, source map and sizes.

    The arguments are those of ``forward``.
    """
    model = rounding_copy(model, precision)
    states = [_run(model, images, schedule, precision, depth=i + 1, ops=ops) for i in blocks]
    return [(state.x, state.source, state.size) for state in states]


def _run(
    model: Any,
    images: Tensor,
    schedule: Any,
    precision: str,
    depth: int | None = None,
    ops: Any = None,
    rotary: RotaryRule = _DEFAULT,
    locate: bool = False,
) -> TokenState:
    """The tokens after the first ``depth`` blocks, before the last norm.

    locate: compute locations even if the model has no rotation that needs them.
    """
    ph, pw = model.patch_embed.patch_size
    grid = (images.shape[2] // ph, images.shape[3] // pw)
    ops = ops or sys.modules["dsm_ext.reference"]
    rope = getattr(model, "rope", None)
    x = embed(model, images)
    b, n, _ = x.shape
    prefix = model.num_prefix_tokens
    state = TokenState(
        x=x,
        size=torch.ones(b, n, device=x.device, dtype=torch.float32),
        source=torch.arange(prefix, n, device=x.device).repeat(b, 1),
        location=None if rope is None and not locate else initial_locations(grid, prefix, x),
    )
    proportional = getattr(schedule, "proportional", True)
    rule = getattr(schedule, "rule", PlainRule())
    for i, (block, steps) in list(enumerate(zip(model.blocks, schedule, strict=True)))[:depth]:
        x, size = state.x, state.size
        merged = x.shape[1] < n
        bias = size.log().to(x.dtype)[:, None, None, :] if proportional and merged else None
        turns = None
        if rope is not None and state.location is not None:
            turns = angles(model, state.location[:, prefix:], grid, i)
        if hasattr(block, "in_proj"):
            attended = parallel_block(block, x, bias, precision)
            state.x = attended.out
        else:
            attended = attention(block.attn, block.norm1(x), bias, turns, precision)
            state.x = x + scaled(attended.out, block, 1)
        if steps:
            keys = attended.k if rotary.metric == "rotated" else attended.unrotated
            metric = merge_metric(keys, state.x if rule.metric == "keys+tokens" else None)
            importance = None
            if rule.protect > 0:
                importance = _importance(model, attended.q, attended.k, bias, size)
            run_steps(ops, state, steps, metric, importance, rule.protect, prefix, grid, rotary)
        if not hasattr(block, "in_proj"):
            state.x = state.x + scaled(block.mlp(block.norm2(state.x)), block, 2)
    return state


def embed(model: Any, images: Tensor) -> Tensor:
    """Prefix tokens and patches [B, N, C], with their position embedding."""
    x = model._pos_embed(model.patch_embed(images))
    if isinstance(x, tuple):  # Eva's, which also computes the rotations of the patches
        return model.norm_pre(x[0])
    return model.norm_pre(model.patch_drop(x))


def _importance(model: Any, q: Tensor, k: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
    """The class token's attention to each token, its mean over the heads [B, N]."""
    has_class_token = getattr(model, "cls_token", None) is not None
    return class_attention(q, k, bias, None if has_class_token else size).mean(1)
