"""How far the answers of a schedule are from the dense model's, picture by picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsm_ext import Schedule, VisionTransformer
from dsm_ext.tuning.judge import divergence

BATCH = 20
DIGITS = 7  # of the KLs that are kept


def answers(model: VisionTransformer, schedule: Schedule | str, images: Tensor) -> Tensor:
    """Logits [n, classes] float64 of a schedule. The model keeps the schedule.

    Args:
        images: [n, channels, height, width], prepared for the model.
    """
    model.schedule = schedule
    return torch.cat([model(part) for part in images.split(BATCH)]).double()


def errors(logits: Tensor, dense: Tensor) -> dict[str, Any]:
    """What the study keeps of a schedule: the KL to dense and the same answer of each picture."""
    return {
        "kl": [round(kl, DIGITS) for kl in divergence(logits, dense).tolist()],
        "same": (logits.argmax(1) == dense.argmax(1)).tolist(),
    }
