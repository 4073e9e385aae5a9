"""What the values of single pictures say about the claims, with bootstrapped intervals."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dsm_ext.analysis.result import Measured
from dsm_ext.intervals import bootstrapped, ratio

LEAST = 1e-12  # of a KL whose logarithm is taken


def claims(measured: Measured) -> dict[str, Any]:
    """Whether errors and amplification fall with depth, and what explains the errors.

    The last block is left out: where one token is pooled, merging there changes no answer.
    """
    blocks = len(measured.step_error) - 1
    error, noise, change, effect, noise_effect = (
        values[:blocks].T  # [n, L - 1]
        for values in (
            measured.step_error, measured.noise_error, measured.change, measured.step_effect,
            measured.noise_effect,
        )
    )  # fmt: skip
    third = max(1, blocks // 3)
    early, late = slice(0, third), slice(blocks - third, blocks)

    def thirds(values: Tensor) -> dict[str, Any]:
        first, last = values[:, early].mean(1), values[:, late].mean(1)
        return {
            "first": first.mean().item(),
            "last": last.mean().item(),
            "difference": bootstrapped(first - last).to_dict(),
        }

    together = torch.stack([error, effect, change], 2)  # [n, L - 1, 3]
    return {
        "third": third,
        "error": thirds(error),
        "noise": thirds(noise),
        "change": thirds(change),
        "amplification": {
            "first": ratio(noise_effect[:, early].sum(1), change[:, early].sum(1)).to_dict(),
            "last": ratio(noise_effect[:, late].sum(1), change[:, late].sum(1)).to_dict(),
        },
        "error_by_depth": bootstrapped(error, _rank_correlation).to_dict(),
        "amplification_by_depth": bootstrapped(
            torch.stack([noise_effect, change], 2), _amplification_correlation
        ).to_dict(),
        "change_by_depth": bootstrapped(change, _rank_correlation).to_dict(),
        "explained": {
            name: bootstrapped(together, partial(_explained, part=i)).to_dict()
            for i, name in enumerate(("amplification", "change", "rest"))
        },
        "step_over_noise": [ratio(error[:, i], noise[:, i]).to_dict() for i in range(blocks)],
    }


def _rank_correlation(drawn: Tensor) -> Tensor:
    """Spearman's correlation of block and mean over pictures [draws]. drawn: [draws, n, L]."""
    return correlation_with_depth(drawn.mean(1))


def _amplification_correlation(drawn: Tensor) -> Tensor:
    """The same of the amplification. drawn: [draws, n, L, 2], effects and changes."""
    means = drawn.mean(1)
    return correlation_with_depth(means[..., 0] / means[..., 1])


def correlation_with_depth(values: Tensor) -> Tensor:
    """Spearman's rank correlation of each row [draws, L] with the block's number [draws]."""
    ranks = values.argsort(1).argsort(1).double()
    depth = torch.arange(values.shape[1], dtype=torch.double)
    ranks, depth = ranks - ranks.mean(1, keepdim=True), depth - depth.mean()
    return (ranks * depth).sum(1) / (ranks.norm(dim=1) * depth.norm())


def _explained(drawn: Tensor, part: int) -> Tensor:
    """How much of the blocks' differences in log KL a part explains [draws].

    A small change of logits moves KL by its square. So log KL = 2 log(amplification) + 2 log(size
    of the change) + rest, and the covariances of the parts with log KL, over its variance, add up
    to 1.

    Args:
        drawn: [draws, n, L, 3]: KL, effect at the end and change in the block, of a step.
        part: 0: the amplification; 1: the size of the change; 2: the rest.
    """
    error, effect, change = drawn.mean(1).clamp(min=LEAST).log().unbind(2)
    own = (2 * (effect - change), 2 * change, error - 2 * effect)[part]
    centred = error - error.mean(1, keepdim=True)
    return (centred * own).sum(1) / (centred**2).sum(1)
