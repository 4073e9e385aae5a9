"""Windows against global steps of the same cost and delay, on pictures of several kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.likeness import likeness
from benchmarks.study.common.methods import at_cost
from benchmarks.study.common.part import Study
from benchmarks.study.meaning import pictures
from benchmarks.study.meaning.figures import figures
from benchmarks.study.shift.measure import spread
from dsm_ext import Config, Global, Local, Schedule, VisionTransformer, digits, from_timm

PICTURES = 250  # of each kind, at most
CROPS = 120  # of textures
LIKENESS_PICTURES = 60
SPEEDUPS = (1.4, 1.7)
SKIPS = (1, 2)
ONE_BLOCK_PAIRS = (16, 48)  # tokens that one block alone removes


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


def measure(study: Study) -> dict[str, Any]:
    """All figures of this part."""
    found = {}
    for kind in kinds(study):
        kept: dict[str, Any] = {}
        config = kind.model.config
        dense: list[Tensor] = []

        def compared(schedule: Schedule, of: Kind = kind, dense: list = dense) -> dict[str, Any]:
            if not dense:  # only where a schedule is measured, not where all are known
                dense.append(answers(of.model, "dense", of.images))
            return errors(answers(of.model, schedule, of.images), dense[0])

        def alike(window: int, of: Kind = kind) -> dict[str, Any]:
            images = of.images[spread(len(of.images), LIKENESS_PICTURES)]
            block, r = SKIPS[0], ONE_BLOCK_PAIRS[0]
            cosines = likeness(of.source, of.model.config, images, block, r, window)
            return {name: values.tolist() for name, values in cosines.items()}

        for key, schedule in schedules(config).items():
            name = f"{kind.name}: {key}"
            kept[key] = study.kept.get(name, lambda s=schedule, run=compared: run(s))
        cosines = {}
        for window in windows(config):
            name = f"{kind.name}: likeness {window}"
            cosines[window] = study.kept.get(name, lambda w=window, run=alike: run(w))
        found[kind.name] = {
            "pictures": len(kind.images),
            **figures(kept, cosines, [w for w in windows(config) if w]),
        }
        print(f"  {kind.name}", flush=True)
    return {"speedups": SPEEDUPS, "skips": SKIPS, "removed": ONE_BLOCK_PAIRS, "kinds": found}


def kinds(study: Study) -> Iterator[Kind]:
    """All kinds of pictures. Each is made when its turn comes."""
    subject = study.photographs()
    model, source = subject.model, subject.source
    images = subject.images[spread(len(subject.images), PICTURES)]
    patch = model.config.patch_size
    mean, std = subject.normalisation()
    yield Kind("photographs", model, source, images)
    yield Kind("photographs, patches permuted", model, source, pictures.permuted(images, patch))
    noise = pictures.noise_like(images * std + mean)
    yield Kind("noise with a photograph's spectrum", model, source, (noise - mean) / std)
    crops = pictures.textures(min(CROPS, len(images)), *images.shape[2:], images.shape[1])
    if crops is not None:
        yield Kind("textures", model, source, (crops - mean) / std)
    shown, _ = digits.load_digits("test")
    shown = shown[spread(len(shown), min(PICTURES, len(images)))]
    source = digits.create_model()
    model = from_timm(source, "dense")
    yield Kind("digits", model, source, shown)
    patch = model.config.patch_size
    yield Kind("digits, patches permuted", model, source, pictures.permuted(shown, patch))


def windows(config: Config) -> tuple[int, ...]:
    """The windows that are compared: none (0), two that cut the grid, and one around all of it.

    On 14 x 14 patches they have the paper's 7 patches a side, 5, and 14. The last has no border
    inside the picture, but matches other tokens than a global step, whose places count the prefix:
    its difference from a global step is what another choice of sets A and B does by itself.
    """
    side = max(config.grid)
    return (0, *dict.fromkeys((max(2, round(side * 5 / 14)), (side + 1) // 2, side)))


def schedules(config: Config) -> dict[str, Schedule]:
    """All schedules by their keys: "1.7 skip 1 window 7", or "block 2 removes 16 window 7" for a
    step in one block alone. Window 0 is a global step. Left out is what cannot save as much."""
    found = {}
    for speedup, skip, window in product(SPEEDUPS, SKIPS, windows(config)):
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
