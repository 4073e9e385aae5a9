"""What a process is asked to measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Job:
    """One peer at one size."""

    peer: str
    model: str = ""  # a timm name; none for the machine's ceilings
    batch: int = 1
    schedule: str = "dense"
    img_size: int = 224
    threads: int = 1
    weights: str = ""  # a folder with MODEL.safetensors; without that file weights are random
    cache: str = ""  # the folder of what artefacts.py makes

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))
