"""``dsm_ext.analyze``: where a model can merge, measured on pictures without labels."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext._native import Schedule
from dsm_ext.analysis.delays import compare_delays, delayed_schedules, suggest
from dsm_ext.analysis.probes import Probes, batch_size
from dsm_ext.analysis.result import Analysis, Block, Measured, Probe
from dsm_ext.drawing import chart as charts
from dsm_ext.error_text import described
from dsm_ext.intervals import bootstrapped, ratio
from dsm_ext.model import VisionTransformer
from dsm_ext.tuning.judge import answers, distance, divergence
from dsm_ext.tuning.pictures import read_pictures

USUAL_SPEEDUP = 1.7


def analyze(
    model: VisionTransformer,
    pictures: Tensor | str | os.PathLike[str],
    *,
    r: int | None = None,
    speedup: float = USUAL_SPEEDUP,
    transform: Callable[[Any], Tensor] | None = None,
    most_pictures: int = 200,
    chart: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Analysis:
    """Measure what merging meets in each block of a model, and suggest how many blocks to skip.

    For each block: how alike patches are; how far and how evenly its heads look; what one global
    step in this block alone does to the answers; and what noise of the same size does there. Then
    delays from 0 to half of the depth are compared at equal multiply-adds. The pictures need no
    labels. All is computed in float32, from the model's weights.

    Args:
        model: is left as it was.
        pictures: prepared pictures [n, channels, height, width], or a folder with pictures.
        r: how many tokens the step of a block merges; None: a twelfth of the patches.
        speedup: of the compared delays: how many times fewer multiply-adds than the dense model's.
        transform: from a PIL image to the model's input; None takes what the model's
            ``pretrained_cfg`` says.
        most_pictures: of a folder with more pictures, take so many, evenly spread.
        chart: also draw the figures into this file. It needs matplotlib.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        ValueError: the model has one block or too small a grid; ``r`` or ``speedup`` is out of
            range; fewer than two pictures can be used.
        TypeError: an argument has another type.
        NotImplementedError: timm's classes cannot have the model's shape.
        FileNotFoundError: the folder does not exist or has no pictures.
        ImportError: a chart is asked for, and matplotlib is not installed.
        RuntimeError: the model is frozen.
    """
    r = _checked(model, r, speedup)
    schedules = delayed_schedules(model.config, speedup)
    if chart is not None:
        charts.check(Path(chart), "chart")
    hidden = not progress or not sys.stderr.isatty()
    caller = "dsm_ext.analyze"
    images = read_pictures(model, pictures, transform, most_pictures, hidden, caller)
    if len(images) < 2:
        raise ValueError(f"{caller}: expected two pictures or more, got {len(images)}")
    weights = {name: weight.float() for name, weight in model.named_parameters()}
    analysis = _analyze(
        VisionTransformer(model.config, "dense", weights), images, r, speedup, schedules, hidden
    )
    if chart is not None:
        from dsm_ext.analysis.chart import draw

        draw(analysis, Path(chart))
    return analysis


def _analyze(
    model: VisionTransformer,
    images: Tensor,
    r: int,
    speedup: float,
    schedules: dict[int, Schedule],
    hidden: bool,
) -> Analysis:
    from tqdm import tqdm

    config = model.config
    device = next(model.parameters()).device
    parts = images.float().split(batch_size(model))
    forwards = len(images) * (1 + 2 * config.depth + 1 + len(schedules))
    with tqdm(total=forwards, unit="forward", desc="analyze", disable=hidden) as bar:
        probes = Probes(model, r, bar.update)
        for part in parts:
            probes.add(part.to(device))
        dense = _answers(model, Schedule.dense(config.depth), parts, bar.update)
        own = {skip: _answers(model, s, parts, bar.update) for skip, s in schedules.items()}
    head = config.num_classes > 0
    compare = divergence if head else distance
    measured = probes.measured({skip: compare(a, dense) for skip, a in own.items()})
    agreements = {
        skip: 100 * float((a.argmax(1) == dense.argmax(1)).double().mean()) if head else None
        for skip, a in own.items()
    }
    delays = compare_delays(config, schedules, measured.delay_error, agreements)
    measure = "KL" if head else "1 - cosine"
    chosen, verdict = suggest(delays, measure, len(images))
    return Analysis(
        blocks=[_block(i, probes, measured, head) for i in range(config.depth)],
        delays=delays,
        skip=chosen.skip,
        schedule=schedules[chosen.skip],
        text=chosen.schedule,
        verdict=verdict,
        measure=measure,
        pictures=len(images),
        grid=config.grid,
        r=r,
        speedup=speedup,
        measured=measured,
    )


def _block(index: int, probes: Probes, measured: Measured, head: bool) -> Block:
    similarity = probes.similarities[index]
    change = measured.change[index]

    def probe(error: Tensor, agree: Tensor, effect: Tensor) -> Probe:
        agreement = 100 * float(agree[index].mean()) if head else None
        changed = bool(change.any())
        amplification = ratio(effect[index], change) if changed else None
        return Probe(bootstrapped(error[index]), agreement, amplification)

    return Block(
        index=index,
        keys=similarity.result("keys"),
        tokens=similarity.result("tokens"),
        distance=measured.distance[index].mean(0).tolist(),
        entropy=measured.entropy[index].mean(0).tolist(),
        change=bootstrapped(change),
        step=probe(measured.step_error, measured.step_agree, measured.step_effect),
        noise=probe(measured.noise_error, measured.noise_agree, measured.noise_effect),
    )


@torch.no_grad()
def _answers(
    model: VisionTransformer,
    schedule: Schedule,
    parts: tuple[Tensor, ...],
    step: Callable[[int], object],
) -> Tensor:
    model.schedule = schedule
    found = []
    for part in parts:
        found.append(answers(model, part))
        step(len(part))
    return torch.cat(found)


def _checked(model: Any, r: Any, speedup: Any) -> int:
    """Check the arguments that need no pictures. Returns the number of tokens of a step."""
    if not isinstance(model, VisionTransformer):
        raise TypeError(
            f"dsm_ext.analyze: expected a dsm_ext.VisionTransformer, got {described(model)}; "
            "dsm_ext.from_timm makes one of timm's model"
        )
    if isinstance(speedup, bool) or not isinstance(speedup, (int, float)):
        raise TypeError(
            f"dsm_ext.analyze: expected speedup to be a number, got {described(speedup)}"
        )
    if not math.isfinite(speedup):
        raise ValueError(f"dsm_ext.analyze: expected speedup to be finite, got {speedup}")
    config = model.config
    if config.depth < 2:
        raise ValueError("dsm_ext.analyze: expected a model of two blocks or more, got one block")
    gh, gw = config.grid
    if max(gh, gw) < 3:
        raise ValueError(
            "dsm_ext.analyze: expected a grid of three patches or more along one side, got "
            f"{gh} x {gw}"
        )
    most = gh * gw // 2
    if r is None:
        return max(1, gh * gw // 12)
    if isinstance(r, bool) or not isinstance(r, int):
        raise TypeError(f"dsm_ext.analyze: expected r to be an int, got {described(r)}")
    if not 1 <= r <= most:
        raise ValueError(f"dsm_ext.analyze: expected r to be in [1, {most}], got {r}")
    return r
