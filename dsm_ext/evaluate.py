"""Accuracy of schedules and precisions on labelled pictures, compared with the dense model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm_ext._native import Schedule
from dsm_ext.model import VisionTransformer


@dataclass
class Score:
    """Sums over pictures. ``summary`` turns them into rates."""

    pictures: int = 0
    top1: int = 0
    top5: int = 0
    agree: int = 0
    kl: float = 0.0

    def add(self, logits: Tensor, dense: Tensor, labels: Tensor) -> None:
        """Count one batch.

        Args:
            logits: [b, classes], of a schedule and a precision.
            dense: [b, classes], of the same model without merging, in the precision of its weights.
            labels: [b].
        """
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        self.pictures += len(labels)
        self.top1 += int((best[:, 0] == labels).sum())
        self.top5 += int((best == labels[:, None]).any(1).sum())
        self.agree += int((best[:, 0] == dense.argmax(1)).sum())
        own, other = logits.double().log_softmax(1), dense.double().log_softmax(1)
        self.kl += float(F.kl_div(own, other, log_target=True, reduction="sum"))

    def summary(self) -> dict[str, float]:
        """Top-1, top-5 and agreement with dense in percent, and KL(dense || this) in nats."""
        n = max(self.pictures, 1)
        return {
            "top1": 100 * self.top1 / n,
            "top5": 100 * self.top5 / n,
            "agreement": 100 * self.agree / n,
            "kl": self.kl / n,
        }


@dataclass
class Evaluation:
    """Runs a model over batches, dense and with each schedule, in each precision.

    All are compared with the dense model in the precision of its weights.

    Args:
        schedules: strings for ``Schedule.parse``, or a dict from names to schedules.
        precisions: by name; with None the model's own alone.
    """

    model: VisionTransformer
    schedules: Sequence[str] | Mapping[str, Schedule | str]
    precisions: Sequence[str] | None = None
    scores: dict[tuple[str, str], Score] = field(init=False)
    models: dict[str, VisionTransformer] = field(init=False)
    named: dict[str, Schedule | str] = field(init=False)

    def __post_init__(self) -> None:
        given = self.schedules
        merged = given if isinstance(given, Mapping) else {name: name for name in given}
        for schedule in merged.values():
            self.model.schedule = schedule  # refuse a bad schedule before the first picture
        self.named = {"dense": "dense", **merged}
        precisions = [self.model.precision] if self.precisions is None else self.precisions
        runs = [("dense", exact_precision(self.model))]
        runs += [(name, precision) for precision in precisions for name in self.named]
        self.scores = {run: Score() for run in runs}
        self.models = {precision: in_precision(self.model, precision) for _, precision in runs}

    def run(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[dict[str, Any]]:
        """Score all batches of (images, labels). Return a row for each schedule and precision."""
        weight = next(self.model.parameters())
        for images, labels in batches:
            images = images.to(weight.device, weight.dtype)
            dense = None
            for (schedule, precision), score in self.scores.items():
                model = self.models[precision]
                model.schedule = self.named[schedule]
                logits = model(images).float().cpu()
                dense = logits if dense is None else dense
                score.add(logits, dense, labels)
        return self.results()

    def results(self) -> list[dict[str, Any]]:
        """One dict for each schedule and precision: their names, scores and GMACs."""
        rows = []
        for (schedule, precision), score in self.scores.items():
            self.model.schedule = self.named[schedule]
            plan = self.model.plan
            rows.append(
                {
                    "schedule": schedule,
                    "precision": precision,
                    "pictures": score.pictures,
                    **score.summary(),
                    "gmacs": plan.multiply_adds / 1e9,
                    "gmacs_logits": plan.multiply_adds_logits / 1e9,
                }
            )
        return rows


def in_precision(model: VisionTransformer, precision: str) -> VisionTransformer:
    """The model itself if it runs in the precision; else another one that shares its weights."""
    if model.precision == precision:
        return model
    other = VisionTransformer(model.config, model.schedule, dict(model.named_parameters()))
    if other.precision != precision:
        other.precision = precision
    return other


def exact_precision(model: VisionTransformer) -> str:
    """The precision of a model that rounds its weights least: float32 if they are float32."""
    exact = all(weight.dtype == torch.float32 for weight in model.parameters())
    return "float32" if exact else model.precision
