"""Measuring the blocks of a model: similarity, attention, and what a change in one block does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dsm_ext._native import Global, Schedule
from dsm_ext.analysis.attention import distances, head_figures
from dsm_ext.analysis.changes import lengths, merge_change, noise_like
from dsm_ext.analysis.dense import DenseRunner
from dsm_ext.analysis.result import Measured
from dsm_ext.analysis.similarity import Pairs, SimilarityMeter
from dsm_ext.model import VisionTransformer
from dsm_ext.tuning.judge import distance, divergence

MOST_IN_BATCH = 32
MOST_SHARES = 3e7  # attention's values in a batch, which bound the memory
_SEED = 1_000_003  # a picture's and a block's numbers times this give all noises other seeds


class Probes:
    """Measures all blocks of a model on batches of pictures.

    Args:
        model: float32; its schedule changes.
        r: how many tokens the step of one block merges.
        step: is called after each forward of a batch, with the number of pictures in it.
    """

    def __init__(self, model: VisionTransformer, r: int, step: Callable[[int], object]) -> None:
        config = model.config
        self.model, self.r, self.step = model, r, step
        self.runner = DenseRunner(model)
        self.depth, self.prefix, self.grid = config.depth, config.prefix, config.grid
        device = next(model.parameters()).device
        pairs = Pairs(self.grid, self.prefix, device)
        self.apart = distances(self.grid, device)
        self.similarities = [SimilarityMeter(pairs) for _ in range(self.depth)]
        self.values: dict[str, list[list[Tensor]]] = {
            name: [[] for _ in range(self.depth)]
            for name in Measured.__dataclass_fields__
            if name != "delay_error"
        }
        self.seen = 0

    @torch.no_grad()
    def add(self, images: Tensor) -> None:
        """Measure a batch [b, channels, height, width] on the model's device."""
        self.model.schedule = "dense"
        features = self.model.forward_features(images, dense=True)
        self.step(len(images))
        for i in range(self.depth):
            self._step_alone(i, images, features)
        self._noises(images)
        self.seen += len(images)

    def measured(self, delay_error: dict[int, Tensor]) -> Measured:
        """The values of all pictures so far. delay_error: for each skip [n]."""
        rows = {
            name: torch.stack([torch.cat(parts) for parts in blocks])
            for name, blocks in self.values.items()
        }
        return Measured(delay_error=delay_error, **rows)

    def _step_alone(self, index: int, images: Tensor, dense: Tensor) -> None:
        self.model.schedule = step_alone(self.depth, index, self.r)
        self._compare("step", index, self.model.forward_features(images, dense=True), dense)
        self.step(len(images))

    def _noises(self, images: Tensor) -> None:
        """Look at each block of the dense forward, then run noise from each block to the end."""
        runner, prefix = self.runner, self.prefix
        x = runner.embed(images)
        noisy = []
        for i in range(self.depth):
            tokens, q, k = runner.first_half(i, x)
            keys = k.float().mean(1)
            self.similarities[i].add(keys[:, prefix:], tokens[:, prefix:])
            apart, entropy = head_figures(q[:, :, prefix:], k[:, :, prefix:], self.apart)
            change = merge_change(tokens, keys, self.r, prefix)
            first = self.seen * self.depth + i
            seeds = [_SEED * (first + b * self.depth) for b in range(len(images))]
            noisy.append(tokens + noise_like(change, prefix, seeds))
            self._keep("distance", i, apart)
            self._keep("entropy", i, entropy)
            self._keep("change", i, lengths(change) / lengths(tokens))
            x = runner.second_half(i, tokens)
        dense = runner.timm.norm(x)
        for i, tokens in enumerate(noisy):
            self._compare("noise", i, runner.features(i, tokens), dense)
            self.step(len(images))

    def _compare(self, what: str, index: int, features: Tensor, dense: Tensor) -> None:
        own, other = answers_of(self.model, features), answers_of(self.model, dense)
        head = self.model.config.num_classes > 0
        agree = own.argmax(1) == other.argmax(1) if head else torch.ones(len(own))
        self._keep(f"{what}_error", index, (divergence if head else distance)(own, other))
        self._keep(f"{what}_agree", index, agree)
        self._keep(f"{what}_effect", index, lengths(features - dense) / lengths(dense))

    def _keep(self, name: str, index: int, values: Tensor) -> None:
        self.values[name][index].append(values.double().cpu())


def step_alone(depth: int, index: int, r: int) -> Schedule:
    """One global step of ``r`` tokens in block ``index``; all other blocks are dense."""
    return Schedule([Global(r) if i == index else None for i in range(depth)])


def answers_of(model: VisionTransformer, features: Tensor) -> Tensor:
    """What schedules are compared by, from final features with a row for every patch, as
    ``dsm_ext.tuning.judge.answers`` gives it from pictures. float64 on the CPU.

    Args:
        features: [b, N, C], after the last norm.
    """
    config = model.config
    if config.num_classes == 0 and config.global_pool == "":
        pooled = features[:, 0] if config.prefix > 0 else features.mean(1)
    else:
        pooled = model.forward_head(features)
    return pooled.double().cpu()


def batch_size(model: VisionTransformer) -> int:
    """How many pictures fit into a batch."""
    config = model.config
    tokens = config.prefix + config.grid[0] * config.grid[1]
    return max(1, min(MOST_IN_BATCH, int(MOST_SHARES / (config.num_heads * tokens**2))))
