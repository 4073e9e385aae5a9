"""How the limits of pictures go with what the pictures are like: ranks, thirds, a plain model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsm_ext.intervals import bootstrapped

DRAWS = 1000  # of the bootstraps here, which rank all pictures again in every draw
SHARE_FAILED = 0.2  # the plain model tells the pictures that fail while this share has failed


def ranks(values: Tensor) -> Tensor:
    """The ranks of values along the last dimension, from 1; equal values share their mean rank."""
    ordered = values.contiguous().sort(-1).values
    low = torch.searchsorted(ordered, values.contiguous())
    high = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (low + high + 1).double() / 2


def correlation(x: Tensor, y: Tensor, without: Tensor | None = None) -> dict[str, float] | None:
    """Spearman's rank correlation of x and y [n], with its interval over pictures.

    None if all values of x or y are equal, because a correlation is then not defined.

    Args:
        without: [n]; the part that both ranks share with its ranks, along a line, is taken away.
    """
    if x.unique().numel() < 2 or y.unique().numel() < 2:
        return None
    columns = [x, y] if without is None else [x, y, without]
    values = torch.stack([column.double() for column in columns], 1)
    return bootstrapped(values, _partial if without is not None else _spearman, DRAWS).to_dict()


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    return (x * y).sum(-1) / (x.square().sum(-1) * y.square().sum(-1)).sqrt()


def _spearman(drawn: Tensor) -> Tensor:
    x, y = ranks(drawn[..., 0]), ranks(drawn[..., 1])
    return _pearson(x, y)


def _partial(drawn: Tensor) -> Tensor:
    x, y, z = (ranks(drawn[..., i]) for i in range(3))
    xy, xz, yz = _pearson(x, y), _pearson(x, z), _pearson(y, z)
    return (xy - xz * yz) / ((1 - xz.square()) * (1 - yz.square())).sqrt()


def thirds(values: Tensor) -> Tensor:
    """0, 1 or 2 for the pictures [n] in the lowest, the middle and the highest third."""
    places = values.argsort(stable=True).argsort()
    return places * 3 // len(values)


def by_thirds(kept: Tensor, first: Tensor, second: Tensor) -> list[list[dict[str, float]]]:
    """The per cent of answers kept [n bool] in each third of ``first`` (rows) and ``second``.

    A group without pictures has the count 0 and no interval.
    """
    rows, columns = thirds(first), thirds(second)
    table: list[list[dict[str, float]]] = [[], [], []]
    for i in range(3):
        for j in range(3):
            own = kept[(rows == i) & (columns == j)]
            known = bootstrapped(100 * own.double()).to_dict() if len(own) else {}
            table[i].append({"count": len(own), **known})
    return table


def bins(kept: Tensor, values: Tensor, count: int = 5) -> list[dict[str, float]]:
    """The per cent kept [n bool] in ``count`` groups of equal size, by rising values [n]."""
    found = []
    for own in values.argsort(stable=True).tensor_split(count):
        middle = values[own].double().median().item()
        found.append({"value": middle, **bootstrapped(100 * kept[own].double()).to_dict()})
    return found


def target(speedups: list[float], limits: Tensor) -> float:
    """The first speedup by which ``SHARE_FAILED`` of the pictures have lost their answer.

    The last speedup if fewer do.
    """
    for speedup in speedups:
        if (limits < speedup).double().mean() >= SHARE_FAILED:
            return speedup
    return speedups[-1]


def auc(failed: Tensor, score: Tensor) -> Tensor:
    """How well scores tell failures: the chance that a failed picture scores above another.

    0.5 is guessing. NaN where no picture, or every picture, failed.

    Args:
        failed: [..., n], 0 or 1.
        score: [..., n]; equal scores count half.
    """
    positive, count = failed.sum(-1), failed.shape[-1]
    above = (ranks(score) * failed).sum(-1) - positive * (positive + 1) / 2
    return above / (positive * (count - positive))


def predictors(causes: dict[str, Tensor], failed: Tensor) -> dict[str, Any]:
    """How well a logistic regression tells the pictures that fail, from each cause and from all.

    The model of one half of the pictures (every second) scores the other half, and the other way
    round. Scores are compared within a half only.

    Args:
        causes: [n] values by their names.
        failed: [n] bool.

    Returns:
        For each cause, for ``all``, and for each ``all but`` one: the AUC with its interval, and
        less the AUC of all, ``difference``. Empty if a half has fewer than two failures or others.
    """
    half = torch.arange(len(failed)) % 2
    least = min(int((failed[half == h] == kind).sum()) for h in (0, 1) for kind in (True, False))
    if least < 2:
        return {}
    chosen = {name: [name] for name in causes} | {"all": list(causes)}
    chosen |= {f"all but {name}": [other for other in causes if other != name] for name in causes}
    scores = {
        name: _scores(torch.stack([causes[c] for c in of], 1), failed, half)
        for name, of in chosen.items()
    }
    found = {}
    for name, score in scores.items():
        columns = [failed.double(), half.double(), score, scores["all"]]
        values = torch.stack(columns, 1)
        found[name] = bootstrapped(values, _mean_auc, DRAWS).to_dict()
        found[name]["difference"] = bootstrapped(values, _difference, DRAWS).to_dict()
    return found


def _scores(values: Tensor, failed: Tensor, half: Tensor) -> Tensor:
    """The log odds of failing [n], each by the model of the other half."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = torch.zeros(len(failed), dtype=torch.double)
    for own in (0, 1):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(values[half != own].numpy(), failed[half != own].numpy())
        odds = model.decision_function(values[half == own].numpy())
        scores[half == own] = torch.from_numpy(odds).double()
    return scores


def _aucs(drawn: Tensor, column: int) -> Tensor:
    """The AUC of the scores in a column, within halves: pairs of one half are compared alone."""
    failed, half, score = drawn[..., 0], drawn[..., 1], drawn[..., column]
    # Shifting a half's scores beyond the other's makes the pairs of two halves known.
    shifted = score + half * (2 * drawn[..., 2:].abs().amax() + 1)
    both = auc(failed, shifted)
    counts = [[((half == h) & (failed == f)).sum(-1) for f in (0, 1)] for h in (0, 1)]
    pairs = counts[0][0] * counts[0][1] + counts[1][0] * counts[1][1]
    crossed = counts[1][1] * counts[0][0]  # failed pictures of half 1 above others of half 0
    total = (counts[0][0] + counts[1][0]) * (counts[0][1] + counts[1][1])
    return (both * total - crossed) / pairs


def _mean_auc(drawn: Tensor) -> Tensor:
    return _aucs(drawn, 2)


def _difference(drawn: Tensor) -> Tensor:
    return _aucs(drawn, 2) - _aucs(drawn, 3)
