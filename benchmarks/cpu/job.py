"""The job of a worker process: what it must measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Job:
    """One peer, with one model, batch size, image size, schedule and precision."""

    peer: str
    model: str = ""  # a timm name; "" for the ceilings of the machine
    batch: int = 1
    schedule: str = "dense"
    precision: str = "float32"  # one of those that the peer has in peers.py
    img_size: int = 224
    threads: int = 1
    weights: str = ""  # a folder; if it has no MODEL.safetensors, weights are random
    pictures: str = ""  # a folder; "" for random images
    fold: int = 0  # a peer that is calibrated sees the pictures at positions p with p % 2 == fold
    cache: str = ""  # the folder into which artefacts.py writes

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))
