"""Where the evidence for an answer is in a picture, and what merging mixes it with.

A network that answers from a class token has no plain class activation map, because its last
layers do not average patches. In place of it, this takes gradient times activation (Shrikumar et
al., arXiv 1605.01713) of the patch tokens before each of the last blocks: how much the logit of the
chosen class would fall, to first order, if the patch had the mean token of the picture.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.study.limits.network import Network

BATCH = 20
PART = 4  # the gradient is taken in the last fourth of the blocks
MASS = 0.6  # the object: the fewest patches that hold this share of the evidence


def evidence(network: Network) -> Tensor:
    """The evidence for the dense answer in each patch [n, gh, gw], not negative, with sum 1.

    It is the mean over the last blocks, smoothed over 3 x 3 patches. A picture without any
    positive evidence has the same value everywhere.
    """
    config = network.model.config
    chosen = range(config.depth - max(1, config.depth // PART), config.depth)
    maps = [_of_batch(network, part, list(chosen)) for part in network.images.split(BATCH)]
    found = F.pad(torch.cat(maps)[:, None], (1, 1, 1, 1), mode="replicate")
    return normalised(F.avg_pool2d(found, 3, stride=1)[:, 0])


def normalised(maps: Tensor) -> Tensor:
    """Maps [n, gh, gw] divided by their sums; where a sum is 0, the same value everywhere."""
    sums = maps.sum((1, 2), keepdim=True)
    return torch.where(sums > 0, maps / sums.clamp(min=1e-30), 1 / maps[0].numel())


def _of_batch(network: Network, images: Tensor, chosen: list[int]) -> Tensor:
    tokens: list[Tensor] = []

    def keep(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        first = not tokens  # the blocks before it need no gradients
        tokens.append(arguments[0].detach().requires_grad_() if first else arguments[0])
        return (tokens[-1], *arguments[1:])

    hooks = [network.source.blocks[i].register_forward_pre_hook(keep) for i in chosen]
    try:
        with torch.enable_grad():
            logits = network.source(images)
            best = logits.gather(1, logits.argmax(1, keepdim=True)).sum()
            gradients = torch.autograd.grad(best, tokens)
    finally:
        for hook in hooks:
            hook.remove()
    prefix = network.model.config.prefix
    total = torch.zeros(len(images), *network.model.config.grid)
    for values, gradient in zip(tokens, gradients, strict=True):
        patches = values.detach()[:, prefix:]
        fall = (gradient[:, prefix:] * (patches - patches.mean(1, keepdim=True))).sum(2)
        total += normalised(fall.clamp(min=0).unflatten(1, network.model.config.grid))
    return total / len(chosen)


def objects(maps: Tensor, mass: float = MASS) -> Tensor:
    """The fewest patches that together hold a share ``mass`` of the evidence, [n, gh, gw] bool."""
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    sums = flat.gather(1, order).cumsum(1)
    inside = sums - flat.gather(1, order) < mass * sums[:, -1:]  # before this patch, too little
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, inside).view_as(maps)


def mixed(source: Tensor, inside: Tensor, maps: Tensor) -> Tensor:
    """The share of the object's evidence that is merged with background [n].

    A patch of the object is mixed as far as its token holds patches outside the object: 0 if all of
    them are inside, 0.75 if three of four are outside. The mean is weighted by evidence.

    Args:
        source: [n, gh * gw], the token of each patch.
        inside: [n, gh, gw], the object.
        maps: [n, gh, gw], the evidence.
    """
    own = inside.flatten(1).double()
    index = source.long()
    tokens = int(index.max()) + 1
    holds = torch.zeros(len(index), tokens, dtype=torch.double)
    counts = holds.scatter_add(1, index, torch.ones_like(own))
    shares = holds.scatter_add(1, index, own) / counts.clamp(min=1)
    weights = maps.flatten(1).double() * own
    return (weights * (1 - shares.gather(1, index))).sum(1) / weights.sum(1).clamp(min=1e-30)


def neighbours_cosine(tokens: Tensor) -> Tensor:
    """The mean cosine of patches to those beside and below them [n].

    Args:
        tokens: [n, gh, gw, C].
    """
    unit = F.normalize(tokens.double(), dim=3)
    across = (unit[:, :, 1:] * unit[:, :, :-1]).sum(3).flatten(1)
    down = (unit[:, 1:] * unit[:, :-1]).sum(3).flatten(1)
    return torch.cat([across, down], 1).mean(1)
