"""How alike patches are: each to its partner, to its neighbours, and to strangers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 4000  # of the cosines from -1 to 1; percentiles are exact to a bin's width


@dataclass(frozen=True)
class Spread:
    """The mean of many values, and where most of them are."""

    mean: float
    low: float
    """The 10th percentile."""
    high: float
    """The 90th percentile."""


@dataclass(frozen=True)
class Similarity:
    """The cosines of pairs of patches, over all pictures."""

    partner: Spread
    """Of each patch of A (those at even positions) to its partner: the patch of B with the most
    similar key."""
    neighbours: Spread
    """Of patches that touch: the four around a patch."""
    strangers: Spread
    """Of patches more than half of the grid's height or width apart."""


class Pairs:
    """The pairs of patches of a grid that are compared.

    Args:
        grid: rows and columns of patches.
        prefix: the number of prefix tokens. It decides which patches are at even positions.
    """

    def __init__(
        self, grid: tuple[int, int], prefix: int, device: torch.device | None = None
    ) -> None:
        gh, gw = grid
        patches = torch.arange(gh * gw, device=device).view(gh, gw)
        right = torch.stack([patches[:, :-1].flatten(), patches[:, 1:].flatten()])
        down = torch.stack([patches[:-1].flatten(), patches[1:].flatten()])
        self.neighbours = torch.cat([right, down], 1)  # [2, pairs], each pair once
        rows, columns = patches.flatten() // gw, patches.flatten() % gw
        far = (rows[:, None] - rows).abs() > gh / 2
        far |= (columns[:, None] - columns).abs() > gw / 2
        self.strangers = far.triu().nonzero().T  # [2, pairs], each pair once
        first = prefix % 2
        self.a, self.b = patches.flatten()[first::2], patches.flatten()[1 - first :: 2]


class Cosines:
    """Cosines of one kind of pair, counted in bins, because all of them take too much memory."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.double)
        self.total = 0.0
        self.number = 0

    def add(self, cosines: Tensor) -> None:
        flat = cosines.flatten().float()
        self.counts += torch.histc(flat.clamp(-1, 1), BINS, -1, 1).double().cpu()
        self.total += float(flat.double().sum())
        self.number += flat.numel()

    def spread(self) -> Spread:
        return Spread(self.total / self.number, self._percentile(0.1), self._percentile(0.9))

    def _percentile(self, share: float) -> float:
        """The value below which this share of all cosines is; inside a bin, by a straight line."""
        below = self.counts.cumsum(0)
        wanted = share * float(below[-1])
        i = int(torch.searchsorted(below, wanted))
        inside = 1 - (float(below[i]) - wanted) / float(self.counts[i])
        return -1 + 2 * (i + inside) / BINS


class SimilarityMeter:
    """Adds up the cosines of keys and tokens of one block over batches of pictures."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.cosines = {what: [Cosines() for _ in range(3)] for what in ("keys", "tokens")}

    def add(self, keys: Tensor, tokens: Tensor) -> None:
        """Count a batch.

        Args:
            keys: [B, N, D], the mean of the patches' keys over the heads.
            tokens: [B, N, C], the patches' tokens where the block merges.
        """
        pairs = self.pairs
        unit = {"keys": F.normalize(keys, dim=2), "tokens": F.normalize(tokens, dim=2)}
        alike = unit["keys"] @ unit["keys"].transpose(1, 2)  # [B, N, N]
        partner = pairs.b[alike[:, pairs.a][:, :, pairs.b].argmax(2)]  # [B, A]
        for what, rows in unit.items():
            cosines = alike if what == "keys" else rows @ rows.transpose(1, 2)
            of_partner, of_neighbours, of_strangers = self.cosines[what]
            of_partner.add(cosines[:, pairs.a].gather(2, partner[..., None]))
            of_neighbours.add(cosines[:, pairs.neighbours[0], pairs.neighbours[1]])
            of_strangers.add(cosines[:, pairs.strangers[0], pairs.strangers[1]])

    def result(self, what: str) -> Similarity:
        """The similarities by "keys" or "tokens"."""
        return Similarity(*(cosines.spread() for cosines in self.cosines[what]))
