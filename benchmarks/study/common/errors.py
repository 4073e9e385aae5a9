"""How far the answers of a schedule are from the dense model's, picture by picture."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm_ext import Schedule, VisionTransformer

BATCH = 20
DIGITS = 7  # of the KLs that are kept


def answers(model: VisionTransformer, schedule: Schedule | str, images: Tensor) -> Tensor:
    """Logits [n, classes] float64 of a schedule. The model keeps the schedule.

    Args:
        images: [n, channels, height, width], prepared for the model.
    """
    model.schedule = schedule
    return torch.cat([model(part) for part in images.split(BATCH)]).double()


def divergence(logits: Tensor, dense: Tensor) -> Tensor:
    """KL(dense || logits) in nats of each picture [n]. Both arguments are [n, classes]."""
    own, other = logits.log_softmax(1), dense.log_softmax(1)
    return F.kl_div(own, other, log_target=True, reduction="none").sum(1)


def errors(logits: Tensor, dense: Tensor) -> dict[str, Any]:
    """What the study keeps of a schedule: the KL to dense and the same answer of each picture."""
    return {
        "kl": [round(kl, DIGITS) for kl in divergence(logits, dense).tolist()],
        "same": (logits.argmax(1) == dense.argmax(1)).tolist(),
    }
