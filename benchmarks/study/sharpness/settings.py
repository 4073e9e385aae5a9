"""What the part trains and measures, and how much of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks.study.common.methods import methods
from dsm_ext import Config, Schedule
from tools.train_digits import Recipe

TRAININGS = {
    "AdamW": "adamw",
    "AdamW, half the gradients": "adamw",
    "SAM": "sam",
}
"""The trainings by name, and their optimizer. A step of SAM computes two gradients: it has half of
AdamW's epochs at the same budget, and as many as the second training."""

SHARPNESS = ("ToMe", "DSM")
"""The methods, at equal multiply-adds, under which sharpness is measured."""

# Fewer patches and larger random weights than the demo's, so that a model learns in minutes.
DROPPING = ((0.8, 0.8), (0.95, 0.5), (1.0, 0.0))
BATCH, LEARNING_RATE, SPREAD = 16, 1e-3, 4.0


@dataclass(frozen=True)
class Settings:
    """The defaults are the study's. Tests make everything smaller."""

    seeds: int = 2
    epochs: int = 32
    """Of AdamW. SAM gets a half."""
    rho: float = 0.02
    """SAM's radius. A trial with seed 0 had 91 % of held-out training digits right with 0.02 after
    10 of 30 epochs, and 77 % with 0.05, the radius of SAM's paper."""
    digits: int | None = None
    """How many digits to train and to test with; None: all."""
    counts: tuple[int, ...] = (4, 8, 12, 16, 20, 30, 50, 90)
    """The r of ToMe, DFE and DSM. Up to 20, digits lose almost nothing."""
    speedups: tuple[float, ...] = (1.4, 1.7, 2.0, 3.0, 4.0)
    """Multiply-adds of dense over those of a schedule."""
    sharp_speedups: tuple[float, ...] = (2.0, 4.0)
    """Those at which sharpness is measured."""
    probes: int = 24
    """The training digits of the loss whose sharpness is measured."""
    part: int = 12
    """So many of them are in memory at a time."""
    iterations: int = 8
    """The most products of the Hessian and a vector."""
    radius: float = 0.05
    """Of the ball in which the worst loss is sought."""
    steps: int = 5
    """Of the ascent in that ball."""
    jobs: int = 2
    """Processes at a time, one thread each."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        fields = json.loads(text)
        return Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def recipe(self, training: str, seed: int) -> Recipe:
        """How a model is trained."""
        optimizer = TRAININGS[training]
        rho = self.rho if optimizer == "sam" else Recipe.rho
        epochs = self.epochs if training == "AdamW" else self.epochs // 2
        return Recipe(
            epochs=epochs, seed=seed, optimizer=optimizer, rho=rho, dropping=DROPPING,
            batch=BATCH, lr=LEARNING_RATE, spread=SPREAD,
        )  # fmt: skip

    def runs(self) -> list[tuple[str, int]]:
        """The trainings and seeds, in the order in which they run."""
        return [(training, seed) for seed in range(self.seeds) for training in TRAININGS]

    def schedules(self, config: Config) -> dict[str, Schedule]:
        """Those whose answers are compared, by name: ``name r=count`` and ``name speedup x``."""
        found = {"dense": Schedule.dense(config.depth)}
        for r in self.counts:
            for name, text in (("ToMe", "tome"), ("DFE", "dfe"), ("DSM", "dsm")):
                found[f"{name} r={r}"] = Schedule.parse(f"{text}:r={r}", config.depth)
        for speedup in self.speedups:
            for name, schedule in methods(config, speedup).items():
                found[f"{name} {speedup}x"] = schedule
        return found

    def sharpness_schedules(self, config: Config) -> dict[str, Schedule]:
        """Those under which sharpness is measured."""
        found = {"dense": Schedule.dense(config.depth)}
        for speedup in self.sharp_speedups:
            at_cost = methods(config, speedup)
            found |= {f"{name} {speedup}x": at_cost[name] for name in SHARPNESS}
        return found
