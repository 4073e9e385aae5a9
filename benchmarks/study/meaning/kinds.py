"""The kinds of pictures, and the schedules that are compared on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

from benchmarks.study.common.methods import at_cost
from benchmarks.study.common.subject import Subject
from benchmarks.study.meaning import pictures
from benchmarks.study.shift.measure import spread
from dsm_ext import Config, Global, Local, Schedule, VisionTransformer, digits, from_timm

PICTURES = 150  # of each kind, at most
CROPS = 90  # of textures
SPEEDUPS = (1.4, 1.7)
DIGITS_SPEEDUPS = (1.7, 2.5)  # at less, digits stay as they are, and nothing can be compared
SKIPS = (1, 2)
ONE_BLOCK_PAIRS = (16, 48)  # tokens that one block alone removes

# Kinds whose pictures are the same, with patches in place and permuted.
PAIRS = {
    "photographs": "photographs, patches permuted",
    "digits": "digits, patches permuted",
}


@dataclass
class Kind:
    """Pictures of one kind, and the model that answers them.

    images: [n, channels, height, width], prepared for the model.
    source: timm's module with the same weights.
    """

    name: str
    model: VisionTransformer
    source: Any
    images: Tensor
    speedups: tuple[float, ...]


def kinds(subject: Subject) -> Iterator[Kind]:
    """All kinds of pictures. Each is made when its turn comes."""
    model, source = subject.model, subject.source
    images = subject.images[spread(len(subject.images), PICTURES)]
    patch = model.config.patch_size
    mean, std = subject.normalisation()
    mixed = pictures.permuted(images, patch)
    yield Kind("photographs", model, source, images, SPEEDUPS)
    yield Kind("photographs, patches permuted", model, source, mixed, SPEEDUPS)
    noise = pictures.noise_like(images * std + mean)
    yield Kind("noise with a photograph's spectrum", model, source, (noise - mean) / std, SPEEDUPS)
    channels, height, width = images.shape[1:]
    crops = pictures.textures(min(CROPS, len(images)), height, width, channels)
    if crops is not None:
        yield Kind("textures", model, source, (crops - mean) / std, SPEEDUPS)
    shown, _ = digits.load_digits("test")
    shown = shown[spread(len(shown), min(PICTURES, len(images)))]
    source = digits.create_model()
    model = from_timm(source, "dense")
    mixed = pictures.permuted(shown, model.config.patch_size)
    yield Kind("digits", model, source, shown, DIGITS_SPEEDUPS)
    yield Kind("digits, patches permuted", model, source, mixed, DIGITS_SPEEDUPS)


def windows(config: Config) -> tuple[int, ...]:
    """The windows that are compared: none (0), two that cut the grid, and one around all of it.

    On 14 x 14 patches they have 5, 7 (the paper's) and 14 patches a side. The last has no border
    inside the picture, but matches other tokens than a global step, whose places count the prefix:
    its difference from a global step is what another choice of sets A and B does by itself.
    """
    side = max(config.grid)
    return (0, *dict.fromkeys((max(2, round(side * 5 / 14)), (side + 1) // 2, side)))


def schedules(config: Config, speedups: tuple[float, ...]) -> dict[str, Schedule]:
    """All schedules by their keys: "1.7 skip 1 window 7", or "block 2 removes 16 window 7" for a
    step in one block alone. Window 0 is a global step. Left out is what cannot save as much."""
    found = {}
    for speedup, skip, window in product(speedups, SKIPS, windows(config)):
        local = config.depth // 2 + 1 - skip if window else 0  # as the paper's for 12 blocks
        schedule = at_cost(config, skip, local, window, speedup)
        if schedule is not None:
            found[f"{speedup} skip {skip} window {window}"] = schedule
    for block, r, window in product(single_blocks(config), ONE_BLOCK_PAIRS, windows(config)):
        blocks: list[Any] = [None] * config.depth
        blocks[block] = Local(r, window) if window else Global(r)
        found[f"block {block + 1} removes {r} window {window}"] = Schedule(blocks)
    return found


def single_blocks(config: Config) -> tuple[int, ...]:
    """The blocks that merge alone: the second, and one in the middle, where windows end."""
    return tuple(dict.fromkeys((min(1, config.depth - 2), config.depth // 2 - 1)))
