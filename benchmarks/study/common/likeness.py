"""How alike a model finds the patches of pictures, by the metric that merging compares them by."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm_ext import Config, Global, Local, Schedule, reference

BATCH = 20


def likeness(
    model: Any, config: Config, images: Tensor, block: int, r: int, window: int = 0
) -> dict[str, Tensor]:
    """The mean cosines between the patches' metrics in one block, each [n] float32 by picture.

    Nothing merges before this block.

    Args:
        model: timm's module, which ``dsm_ext.reference`` runs.
        config: its shape.
        images: [n, channels, height, width], prepared for the model.
        block: where one step is made.
        r: how many pairs this step merges.
        window: the side of the step's windows in patches; 0: the whole picture.

    Returns:
        "pairs": of the tokens that the step merges into others, to their partners. "neighbours":
        of patches that share a side. "strangers": of all patches, whatever their distance.
    """
    blocks: list[Any] = [None] * config.depth
    blocks[block] = Local(r, window) if window else Global(r)
    schedule = Schedule(blocks)
    found: list[dict[str, Tensor]] = []
    for part in images.split(BATCH):
        recorder = _Recorder(config.grid)
        reference.forward_intermediates(model, part, schedule, [block], ops=recorder)
        found.append(recorder.cosines)
    return {name: torch.cat([cosines[name] for cosines in found]) for name in found[0]}


class _Recorder:
    """The reference's operators, which also keep the cosines of the step's tokens."""

    merge = staticmethod(reference.merge)

    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid
        self.cosines: dict[str, Tensor] = {}

    def match(self, metric: Tensor, r: int, prefix: int, **windows: Any) -> Tensor:
        """As ``dsm_ext.reference.match``."""
        destination = reference.match(metric, r, prefix=prefix, **windows)
        unit = F.normalize(metric[:, prefix:].float(), dim=-1)
        cosine = unit @ unit.transpose(1, 2)  # [B, patches, patches]
        own = destination[:, prefix:]
        shared = (own[:, :, None] == own[:, None]).triu(1)
        # A destination holds one token of B and those that join it. The mean is over all pairs of
        # tokens that become one.
        height, width = self.grid
        places = torch.arange(height * width).view(self.grid)
        beside = torch.cat([places[:, :-1].flatten(), places[:-1].flatten()])
        other = torch.cat([places[:, 1:].flatten(), places[1:].flatten()])
        count = height * width
        self.cosines = {
            "pairs": (cosine * shared).sum((1, 2)) / shared.sum((1, 2)),
            "neighbours": cosine[:, beside, other].mean(1),
            "strangers": (cosine.sum((1, 2)) - count) / (count * (count - 1)),
        }
        return destination
