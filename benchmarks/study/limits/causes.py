"""What each picture is like: what could decide how much merging its answer bears."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.study.common.errors import answers
from benchmarks.study.common.methods import methods
from benchmarks.study.limits.evidence import evidence, mixed, neighbours_cosine, objects
from benchmarks.study.limits.network import Network

MIXED_AT = 1.7  # times fewer multiply-adds, where the groups are looked at
BATCH = 20
DIGITS = 6  # of the values that are kept


def margins(logits: Tensor) -> Tensor:
    """The probability of the likeliest class less that of the second [n]. logits: [n, classes]."""
    first, second = logits.softmax(1).topk(2, 1).values.unbind(1)
    return first - second


def groups(network: Network, schedule: Any, images: Tensor) -> Tensor:
    """The token of each patch when the last block reads it, [n, gh * gw]."""
    network.model.schedule = schedule
    return torch.cat(
        [
            network.model.forward_intermediates(part, [network.merged_block])[0].source
            for part in images.split(BATCH)
        ]
    )


def causes(network: Network, names: tuple[str, ...]) -> dict[str, Any]:
    """The values of each picture.

    Args:
        names: the methods whose groups are looked at, at ``MIXED_AT``.

    Returns:
        Lists of n values: ``margin``; ``size``, the object's share of the patches; ``busy``, 1 less
        the mean cosine of patches to their neighbours before merging begins; and ``mixed NAME``
        for each method, the share of the object's evidence that is merged with background.
        ``masked``: shares of answers that are lost when the object, or as many other patches, are
        painted in the mean colour, which tells whether the evidence is where the network looks.
    """
    model, images = network.model, network.images
    logits = answers(model, "dense", images)
    maps = evidence(network)
    inside = objects(maps)
    early = max(model.config.depth // 4 - 1, 0)
    found = {
        "margin": margins(logits),
        "size": inside.flatten(1).double().mean(1),
        "busy": 1 - torch.cat([_early_cosines(network, p, early) for p in images.split(BATCH)]),
    }
    schedules = methods(model.config, MIXED_AT)
    for name in names:
        source = groups(network, schedules[name], images)
        found[f"mixed {name}"] = mixed(source, inside, maps)
    values = {name: [round(v, DIGITS) for v in of.tolist()] for name, of in found.items()}
    return {**values, "masked": _masked(network, logits.argmax(1), inside)}


def _early_cosines(network: Network, images: Tensor, block: int) -> Tensor:
    """The neighbours' cosines after a block of the dense model [n]."""
    model = network.model
    model.schedule = "dense"
    tokens = model.forward_intermediates(images, [block])[0].tokens[:, model.config.prefix :]
    return neighbours_cosine(tokens.unflatten(1, model.config.grid))


def _masked(network: Network, dense: Tensor, inside: Tensor) -> dict[str, float]:
    """The per cent of answers lost without the object, and without as many other patches."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(inside.shape, generator=generator).masked_fill(inside, 2.0).flatten(1)
    counts = inside.flatten(1).sum(1, keepdim=True)
    others = (chance.argsort(1).argsort(1) < counts).view_as(inside) & ~inside
    mean = network.images.mean((0, 2, 3))[:, None, None]
    lost = {}
    for name, patches in {"object": inside, "others": others}.items():
        ph, pw = network.model.config.patch_size
        hidden = patches.repeat_interleave(ph, 1).repeat_interleave(pw, 2)[:, None]
        painted = torch.where(hidden, mean, network.images)
        top = answers(network.model, "dense", painted).argmax(1)
        lost[name] = 100 * (top != dense).double().mean().item()
    return lost
