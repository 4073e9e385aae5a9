"""Trains one model of the part and measures it: a process of its own.

    python -m benchmarks.study.sharpness.worker FOLDER TRAINING SEED SETTINGS PARENT

A stopped training goes on from its last epoch, a stopped measurement from its last value.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dsm_ext
from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.kept import Kept
from benchmarks.study.sharpness.hessian import largest_eigenvalue, norm, rise_in_ball
from benchmarks.study.sharpness.settings import Settings
from dsm_ext import Schedule, digits, reference
from tools.train_digits import Epoch, Recipe, train, training_loss

Digits = tuple[Tensor, Tensor]


def main() -> None:
    folder, training, seed, text, parent = sys.argv[1:]
    torch.set_num_threads(1)
    settings = Settings.from_json(text)
    run(Path(folder), training, int(seed), settings, int(parent))


def run(folder: Path, training: str, seed: int, settings: Settings, parent: int) -> dict[str, Any]:
    """Train and measure a model, or go on with it.

    Args:
        folder: of this model; it holds its checkpoint and its values.
        parent: the process that started this one. When that has ended, this one stops too.

    Returns:
        What ``measured.json`` holds, see ``measure``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = settings.recipe(training, seed)
    train_set = _first(digits.load_digits("train"), settings.digits)
    test_set = _first(digits.load_digits("test"), settings.digits)
    model, seconds = trained(folder / "checkpoint.pt", recipe, train_set, parent)
    # The recipe has what matters here of the other fields.
    own = asdict(replace(settings, seeds=1, epochs=1, rho=1.0, jobs=1))
    kept = Kept(folder / "measured.json", {"recipe": asdict(recipe), "settings": own})
    kept.get("training seconds", lambda: round(seconds, 1))
    measure(model, settings, train_set, test_set, kept)
    return kept.values


def trained(
    checkpoint: Path, recipe: Recipe, data: Digits, parent: int
) -> tuple[torch.nn.Module, float]:
    """The model, and the processor's seconds that its training took."""
    saved = torch.load(checkpoint, weights_only=False) if checkpoint.exists() else {}
    if saved.get("recipe") != asdict(recipe) or saved.get("digits") != len(data[1]):
        saved = {"snapshot": None, "seconds": 0.0}
    start = time.process_time() - saved["seconds"]

    def save(epoch: Epoch) -> None:
        state = {
            "recipe": asdict(recipe),
            "digits": len(data[1]),
            "snapshot": epoch.snapshot(),
            "seconds": time.process_time() - start,
        }
        part = checkpoint.with_name("checkpoint.part")
        torch.save(state, part)
        part.replace(checkpoint)
        print(f"epoch {epoch.number} of {recipe.epochs}: loss {epoch.loss:.3f}", flush=True)
        if os.getppid() != parent:
            raise SystemExit("the study was stopped")

    model = train(recipe, *data, save, saved["snapshot"])
    return model, time.process_time() - start


def measure(
    model: torch.nn.Module, settings: Settings, train_set: Digits, test_set: Digits, kept: Kept
) -> None:
    """Measure a trained model: its answers, and how sharp its loss is.

    ``kept`` gets, for each schedule, "answers NAME": the KL to dense, the same answer and the right
    answer of each held-out digit; and "sharpness NAME": the loss of the probes, the largest
    eigenvalue of its Hessian, and its rise in a ball.
    """
    compiled = dsm_ext.from_timm(model)
    config = compiled.config
    images, labels = test_set
    dense = answers(compiled, "dense", images)

    def answered(schedule: Schedule) -> dict[str, Any]:
        logits = answers(compiled, schedule, images)
        return {**errors(logits, dense), "right": (logits.argmax(1) == labels).tolist()}

    for name, schedule in settings.schedules(config).items():
        kept.get(f"answers {name}", lambda schedule=schedule: answered(schedule))
    length = norm(list(model.parameters()))
    kept.get("length of the weights", lambda: length)
    probes = evenly(train_set, settings.probes)
    for name, schedule in settings.sharpness_schedules(config).items():
        kept.get(
            f"sharpness {name}",
            lambda schedule=schedule: sharpness(model, schedule, probes, settings),
        )


def sharpness(
    model: torch.nn.Module,
    schedule: Schedule,
    probes: Digits,
    settings: Settings,
    loss_of: Callable[[Tensor, Tensor], Tensor] = training_loss,
) -> dict[str, Any]:
    """How sharp a loss is under a schedule.

    Args:
        model: timm's, in float32; unchanged afterwards.
        probes: pictures as they are, without augmentation, and their classes.
        loss_of: from logits and classes to the loss; usually the digits' training loss.
    """
    model.eval()
    losses = [
        lambda x=x, y=y: loss_of(reference.forward_with_gradients(model, x, schedule), y)
        for x, y in zip(*(part.split(settings.part) for part in probes), strict=True)
    ]
    parameters = list(model.parameters())
    with torch.no_grad():
        loss = sum(loss().item() for loss in losses) / len(losses)
    rises = rise_in_ball(losses, parameters, settings.radius, settings.steps)
    # flash attention has no derivative of its derivative
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = largest_eigenvalue(losses, parameters, settings.iterations)
    return {"loss": loss, "rises": rises, **{f"eigen{k}": v for k, v in asdict(found).items()}}


def evenly(data: Digits, count: int) -> Digits:
    """``count`` of the digits, evenly spread."""
    index = torch.arange(count) * len(data[1]) // count
    return data[0][index], data[1][index]


def _first(data: Digits, count: int | None) -> Digits:
    return data[0][:count], data[1][:count]


if __name__ == "__main__":
    main()
