"""Finds the pictures whose answers change first, and says what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.study.common.errors import answers
from benchmarks.study.common.methods import methods
from benchmarks.study.limits.causes import groups, margins
from benchmarks.study.limits.evidence import evidence, mixed, objects
from benchmarks.study.limits.network import Network

STEPS = (*(1 + i / 10 for i in range(1, 21)), 3.5, 4.0, 5.0, 7.0)
# About the border of the lowest third of DeiT-T's pictures for the first two, and of the highest
# third for the last one, so that a reason says what is unusual.
SMALL_MARGIN, SMALL_OBJECT, MUCH_MIXED = 0.4, 0.2, 0.3


@dataclass
class Failure:
    """A picture, the last speedup that kept its answer, and the first that lost it."""

    index: int
    kept: float
    """1 is the dense model."""
    lost: float
    answers: tuple[tuple[int, float], tuple[int, float]]
    """The class and its probability, dense and merged."""
    dense_after: float
    """The probability that the merged model gives to the dense answer."""
    groups: tuple[Tensor, Tensor]
    """[gh * gw]: the token of each patch, at ``kept`` and at ``lost``."""
    inside: Tensor
    """[gh, gw] bool: the object, see ``evidence.objects``."""
    margin: float
    size: float
    mixed: float
    """The share of the object's evidence that is merged with background at ``lost``."""

    def reason(self) -> str:
        """What is unusual about the picture, in words."""
        uncertain = self.margin < SMALL_MARGIN
        hidden = self.size < SMALL_OBJECT and self.mixed > MUCH_MIXED
        if uncertain and hidden:
            return "Dense is unsure, and the evidence is small and merged with background."
        if uncertain:
            return "Dense is unsure."
        if hidden:
            return "The evidence is small and merged with background."
        return "Neither: dense is sure, and the evidence is large or stays apart."


def first_failures(
    network: Network, method: str, count: int, steps: tuple[float, ...] = STEPS
) -> list[Failure]:
    """The ``count`` pictures whose answers change first while merging grows, fewer if fewer do.

    Of pictures that fail at the same speedup, those of the largest margin come first: they are the
    ones that the margin does not explain.

    Args:
        method: of ``sweep.METHODS``.
        steps: ascending speedups; a method may not reach the last ones.
    """
    config, images = network.model.config, network.images
    dense = answers(network.model, "dense", images)
    best, margin = dense.argmax(1), margins(dense)
    alive = torch.arange(len(images))
    found: list[tuple[int, float, float, Tensor]] = []
    before = 1.0
    for speedup in steps:
        schedule = methods(config, speedup).get(method)
        if schedule is None or len(found) >= count or len(alive) == 0:
            break
        logits = answers(network.model, schedule, images[alive])
        lost = logits.argmax(1) != best[alive]
        failed = [(int(alive[i]), before, speedup, logits[i]) for i in lost.nonzero()[:, 0]]
        found += sorted(failed, key=lambda failure: -float(margin[failure[0]]))
        alive, before = alive[~lost], speedup
    return [_describe(network, method, dense, *failure) for failure in found[:count]]


def _describe(
    network: Network, method: str, dense: Tensor, index: int, kept: float, lost: float, own: Tensor
) -> Failure:
    config = network.model.config
    image = network.images[index : index + 1]
    sources = [
        groups(network, methods(config, speedup)[method] if speedup > 1 else "dense", image)
        for speedup in (kept, lost)
    ]
    single = Network(network.name, network.model, network.source, image, None)
    maps = evidence(single)
    inside = objects(maps)
    probabilities = [logits.softmax(0) for logits in (dense[index], own)]
    tops = [(int(p.argmax()), float(p.max())) for p in probabilities]
    return Failure(
        index,
        kept,
        lost,
        (tops[0], tops[1]),
        float(probabilities[1][tops[0][0]]),
        (sources[0][0], sources[1][0]),
        inside[0],
        float(margins(dense[index : index + 1])[0]),
        float(inside.double().mean()),
        float(mixed(sources[1], inside, maps)[0]),
    )
