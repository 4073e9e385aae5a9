"""What an analysis returns: figures of each block, of each delay, and a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from dsm_ext._native import Schedule
from dsm_ext.analysis.similarity import Similarity, Spread
from dsm_ext.intervals import Interval


@dataclass(frozen=True)
class Probe:
    """What a change of the tokens in one block does, with all other blocks dense."""

    error: Interval
    """KL(dense || changed) in nats; without a head, 1 - the cosine of the pooled features."""
    agreement: float | None
    """Same answers as the dense model's, in per cent. None without a head."""
    amplification: Interval | None
    """The relative change of the final features over the relative change of the block's tokens.
    None if nothing changed."""


@dataclass(frozen=True)
class Block:
    """The figures of one block. Where it merges: behind attention's residual, before the MLP (of a
    parallel block: behind the block)."""

    index: int
    keys: Similarity
    """By what matching compares: the mean of the keys over the heads."""
    tokens: Similarity
    """By the tokens where the block merges."""
    distance: list[float]
    """For each head: how far its patches look, in patches, weighted by attention."""
    entropy: list[float]
    """For each head: the entropy of its attention among the patches, in nats."""
    change: Interval
    """The size of what one step changes, over the size of the tokens where the block merges."""
    step: Probe
    """One global step of ``r`` tokens in this block."""
    noise: Probe
    """Gaussian noise in this block, as large as the change that the step makes."""


@dataclass(frozen=True)
class Delay:
    """A schedule that merges nothing in the first ``skip`` blocks."""

    skip: int
    schedule: str
    speedup: float
    """Times fewer multiply-adds than the dense model's."""
    error: Interval
    agreement: float | None
    worse: Interval
    """The error less that of the best delay on the same pictures."""


@dataclass(frozen=True)
class Measured:
    """The values of each picture behind the figures, for further statistics. float64, on the CPU.

    step_error, noise_error: [L, n].
    step_agree, noise_agree: [L, n], 1 for the same answer as the dense model; all 1 without a head.
    change: [L, n], the relative change where the block merges.
    step_effect, noise_effect: [L, n], the relative change of the final features.
    distance, entropy: [L, n, H].
    delay_error: for each skip [n].
    """

    step_error: Tensor
    noise_error: Tensor
    step_agree: Tensor
    noise_agree: Tensor
    change: Tensor
    step_effect: Tensor
    noise_effect: Tensor
    distance: Tensor
    entropy: Tensor
    delay_error: dict[int, Tensor]


@dataclass(frozen=True)
class Figures:
    """All figures of an analysis, which JSON can hold."""

    blocks: list[Block]
    delays: list[Delay]
    skip: int
    """The suggested number of first blocks that merge nothing."""
    text: str
    """The schedule of this skip at the wanted saving, for ``Schedule.parse`` and ``--schedule``."""
    verdict: str
    """The suggestion in a sentence, and whether the pictures are enough to tell."""
    measure: str
    """What the errors are: "KL", or "1 - cosine" for a model without a head."""
    pictures: int
    grid: tuple[int, int]
    """Rows and columns of patches."""
    r: int
    """How many tokens a step alone merges."""
    speedup: float
    """Of the delays: times fewer multiply-adds than the dense model's."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON holds them."""
        value = {f.name: getattr(self, f.name) for f in fields(Figures)}
        return value | {
            "grid": list(self.grid),
            "blocks": [asdict(block) for block in self.blocks],
            "delays": [asdict(delay) for delay in self.delays],
        }

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Figures:
        """The figures of ``to_dict``. Other entries are ignored."""
        own = {f.name: value[f.name] for f in fields(Figures)}
        own["blocks"] = [_block(block) for block in value["blocks"]]
        own["delays"] = [
            Delay(**delay | {name: Interval(**delay[name]) for name in ("error", "worse")})
            for delay in value["delays"]
        ]
        return Figures(**own | {"grid": tuple(value["grid"])})


@dataclass(frozen=True)
class Analysis(Figures):
    """What ``dsm_ext.analyze`` returns."""

    schedule: Schedule
    """The suggested schedule; ``text`` says the same. Assign it to a model's ``schedule``."""
    measured: Measured = field(repr=False)


def _block(value: Mapping[str, Any]) -> Block:
    similar = {
        name: Similarity(**{kind: Spread(**spread) for kind, spread in value[name].items()})
        for name in ("keys", "tokens")
    }
    probes = {name: _probe(value[name]) for name in ("step", "noise")}
    return Block(**{**value, **similar, **probes, "change": Interval(**value["change"])})


def _probe(value: Mapping[str, Any]) -> Probe:
    amplification = value["amplification"]
    return Probe(
        Interval(**value["error"]),
        value["agreement"],
        None if amplification is None else Interval(**amplification),
    )
