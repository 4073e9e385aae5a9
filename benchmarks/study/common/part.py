"""What a part of the study is given, and how the parts are listed and run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.study.common.kept import Kept
from benchmarks.study.common.subject import Subject

# In the order in which they run: the name of each part, and whether it needs a subject.
PARTS = {
    "delay": True,
    "convergence": True,
    "shift": True,
    "meaning": True,
    "limits": True,
    "sharpness": False,
}


@dataclass
class Study:
    """What a part measures with.

    subject: the model and its pictures; None if none were given, for parts that need none.
    state: a folder for larger files that a stopped run goes on from, such as checkpoints.
    """

    subject: Subject | None
    kept: Kept
    state: Path

    def photographs(self) -> Subject:
        """The subject of a part that needs one."""
        assert self.subject is not None
        return self.subject


def module(part: str, name: str) -> Any:
    """A module of a part: "measure" has ``measure``, "chart" has ``draw``."""
    return import_module(f"benchmarks.study.{part}.{name}")
