"""Answers on corrupted pictures, dense and with merging, each compared with dense on the same one.

All schedules need 1.7 times fewer multiply-adds than the dense model. Two controls also differ
slightly from the dense model, but do not merge: its own int8, and its logits with random noise.
The noise is as large as gives ToMe's KL on the clean pictures, and stays as large on all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.likeness import likeness
from benchmarks.study.common.methods import methods
from benchmarks.study.common.part import Study
from benchmarks.study.shift import corruptions
from benchmarks.study.shift.figures import figures
from dsm_ext import _C, VisionTransformer
from dsm_ext.evaluate import in_precision
from dsm_ext.tuning.judge import divergence

SPEEDUP = 1.7
PICTURES = 150  # at most: all corruptions of so many take about six minutes on two cores
LIKENESS_PICTURES = 50
LIKENESS_BLOCK, LIKENESS_PAIRS = 2, 16  # where delayed merging starts, and how many pairs it merges
NOISES = 8  # draws of the noise for each picture
CLEAN = "clean"


def measure(study: Study, corrupt: corruptions.Corrupt | None = None) -> dict[str, Any]:
    """All figures of this part.

    Args:
        corrupt: makes the corruptions, in this process; None: the package does, in two processes.

    Raises:
        ImportError: the package is needed and not installed.
        ValueError: the model does not take pictures of three channels.
    """
    subject = study.photographs()
    if subject.model.config.in_chans != 3:
        raise ValueError(
            "the corruptions are made for colour pictures: expected a model of 3 channels, got "
            f"{subject.model.config.in_chans}"
        )
    if corrupt is None:
        corruptions.check_package()
    chosen = spread(len(subject.images), PICTURES)
    images = subject.images[chosen]
    labels = None if subject.labels is None else subject.labels[chosen]
    mean, std = subject.normalisation()
    pixels = to_pixels(images, mean, std).numpy()
    model, source = subject.model, subject.source
    schedules = methods(model.config, SPEEDUP)
    runs = _runs(model, schedules)

    def cell(pictures: Tensor, sigma: float | None) -> dict[str, Any]:
        dense = answers(model, "dense", pictures)
        sigma = noise_for(dense, runs["ToMe"](pictures)) if sigma is None else sigma
        found = {name: compared(run(pictures), dense, labels) for name, run in runs.items()}
        found["noise"] = noised(dense, sigma, labels)
        alike = likeness(
            source, model.config, pictures[:LIKENESS_PICTURES], LIKENESS_BLOCK, LIKENESS_PAIRS
        )
        return {
            "methods": {"dense": compared(dense, dense, labels), **found},
            "confidence": rounded(dense.softmax(1).amax(1)),
            "sigma": sigma,
            "likeness": {name: values.mean().item() for name, values in alike.items()},
        }

    cells = {CLEAN: study.kept.get(f"{CLEAN}, {len(images)}", lambda: cell(images, None))}
    workers = 0 if corrupt else min(2, os.cpu_count() or 1)
    with corruptions.Corruptions(corrupt or corruptions.corrupt, workers) as made:
        for name in corruptions.NAMES:
            for severity in corruptions.SEVERITIES:

                def one(name: str = name, severity: int = severity) -> dict[str, Any]:
                    changed = torch.from_numpy(made(pixels, name, severity))
                    return cell(to_images(changed, mean, std), cells[CLEAN]["sigma"])

                key = f"{name} {severity}"
                cells[key] = study.kept.get(f"{key}, {len(images)}", one)
            print(f"  {name}", flush=True)
    return {
        "corrupted": len(images),
        "speedup": SPEEDUP,
        "schedules": {name: str(schedule) for name, schedule in schedules.items()},
        "likeness": {
            "pictures": min(LIKENESS_PICTURES, len(images)),
            "block": LIKENESS_BLOCK + 1,
            "pairs": LIKENESS_PAIRS,
        },
        "package": _package(),
        **figures(cells),
    }


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` positions of ``count``, evenly spread."""
    chosen = min(count, most)
    return [(2 * i + 1) * count // (2 * chosen) for i in range(chosen)]


def to_pixels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The pixels [n, height, width, channels] uint8 that prepared images were made from."""
    levels = (images * std + mean) * 255
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def to_images(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Prepare pixels [n, height, width, channels] uint8: [n, channels, height, width] float32."""
    return ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()


def compared(logits: Tensor, dense: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """What is kept of each picture: KL, same answer, size of the change, right answer.

    The size of the change is the standard deviation, over the classes, of the logits' difference.
    A KL also depends on how sure the dense model is; the size does not.
    """
    change = (logits - dense).std(1, unbiased=False)
    found = {**errors(logits, dense), "change": rounded(change)}
    if labels is not None:
        found["right"] = (logits.argmax(1) == labels).tolist()
    return found


def noised(dense: Tensor, sigma: float, labels: Tensor | None) -> dict[str, Any]:
    """As ``compared``, for the dense logits with noise: means over several draws of it."""
    draws = [compared(dense + noise, dense, labels) for noise in _noises(dense, sigma)]
    return {
        name: rounded(torch.tensor([draw[name] for draw in draws]).double().mean(0))
        for name in draws[0]
    }


def noise_for(dense: Tensor, logits: Tensor) -> float:
    """The size of the noise that gives the dense logits the KL that other logits have."""
    wanted = divergence(logits, dense).mean().item()
    low, high = 0.0, 100.0
    for _ in range(24):
        middle = (low + high) / 2
        noisy = [divergence(dense + noise, dense).mean() for noise in _noises(dense, middle)]
        if torch.stack(noisy).mean().item() > wanted:
            high = middle
        else:
            low = middle
    return high


def _noises(dense: Tensor, sigma: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (NOISES, *dense.shape)
    return list(sigma * torch.randn(shape, generator=generator, dtype=dense.dtype))


def rounded(values: Tensor) -> list[float]:
    return [round(value, 7) for value in values.tolist()]


def _runs(
    model: VisionTransformer, schedules: dict[str, Any]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """By the name of a method: from pictures to logits."""

    def with_schedule(schedule: Any) -> Callable[[Tensor], Tensor]:
        return lambda pictures: answers(model, schedule, pictures)

    runs = {name: with_schedule(schedule) for name, schedule in schedules.items()}
    if _C.has_precision("int8"):
        low = in_precision(model, "int8")
        runs["int8"] = lambda pictures: answers(low, "dense", pictures)
    return runs


def _package() -> str | None:
    try:
        return f"imagecorruptions-imaug {version('imagecorruptions-imaug')}"
    except PackageNotFoundError:
        return None
