"""All methods at equal multiply-adds, from little merging to almost no tokens left."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.methods import methods
from benchmarks.study.limits.network import Network
from dsm_ext.intervals import bootstrapped, ratio

SPEEDUPS = (1.1, 1.2, 1.3, 1.4, 1.55, 1.7, 1.85, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0, 7.0)
METHODS = ("ToMe", "DFE", "DSM", "guided")
REFERENCE = "guided"  # the method that the others are compared with, picture by picture


def sweep(network: Network, kept: Kept, speedups: tuple[float, ...]) -> list[Any]:
    """Run every method at every speedup on every picture.

    Returns:
        A dict for each schedule that reaches its speedup: method, speedup, G multiply-adds,
        patches left for the last block, and each picture's ``kl``, ``same`` and ``top``, the
        class that it chose.
    """
    dense = lru_cache(lambda: answers(network.model, "dense", network.images))
    found = []
    for speedup in speedups:
        for name, schedule in methods(network.model.config, speedup).items():
            key = f"sweep {network.name} {name} {speedup}"
            run = kept.get(key, partial(_run, network, schedule, dense))
            found.append({"method": name, "speedup": speedup, **run})
    return found


def _run(network: Network, schedule: Any, dense: Callable[[], Tensor]) -> dict[str, Any]:
    exact = dense()  # first, because the model keeps the schedule that ran last
    logits = answers(network.model, schedule, network.images)
    plan = network.model.plan
    return {
        **errors(logits, exact),
        "top": logits.argmax(1).tolist(),
        "gmacs": plan.multiply_adds / 1e9,
        "patches": plan.blocks[network.merged_block].tokens_out - network.model.config.prefix,
    }


def summary(runs: list[Any], labels: Tensor | None) -> list[dict[str, Any]]:
    """The means of each run over the pictures, with intervals, and its difference to guided's.

    Returns:
        A dict for each run: method, speedup, gmacs, patches, ``kl``, ``same`` and ``top1`` in per
        cent (None without labels), and, less guided's at the same speedup, ``kl_difference`` and
        ``same_difference``; for DFE and DSM also ``kl_over_tome`` and ``same_less_tome``.
    """
    references = {run["speedup"]: run for run in runs if run["method"] == REFERENCE}
    plain = {run["speedup"]: run for run in runs if run["method"] == "ToMe"}
    rows = []
    for run in runs:
        kl, same = torch.tensor(run["kl"]), 100 * torch.tensor(run["same"]).double()
        row = {name: run[name] for name in ("method", "speedup", "gmacs", "patches")}
        row |= {"kl": bootstrapped(kl).to_dict(), "same": bootstrapped(same).to_dict()}
        right = None if labels is None else 100 * (torch.tensor(run["top"]) == labels).double()
        row["top1"] = None if right is None else bootstrapped(right).to_dict()
        other = references.get(run["speedup"])
        if other is not None and run["method"] != REFERENCE:
            differences = kl - torch.tensor(other["kl"])
            row["kl_difference"] = bootstrapped(differences).to_dict()
            differences = same - 100 * torch.tensor(other["same"]).double()
            row["same_difference"] = bootstrapped(differences).to_dict()
        tome = plain.get(run["speedup"])
        if tome is not None and run["method"] in ("DFE", "DSM"):
            row["kl_over_tome"] = ratio(kl, torch.tensor(tome["kl"])).to_dict()
            differences = same - 100 * torch.tensor(tome["same"]).double()
            row["same_less_tome"] = bootstrapped(differences).to_dict()
        rows.append(row)
    return rows


def kept_answers(runs: list[Any], method: str) -> tuple[list[float], Tensor]:
    """The speedups that a method reaches, and which pictures keep their answers [speedups, n]."""
    own = sorted((run for run in runs if run["method"] == method), key=lambda run: run["speedup"])
    return [run["speedup"] for run in own], torch.tensor([run["same"] for run in own])


def limits(speedups: list[float], same: Tensor) -> Tensor:
    """The largest speedup up to which each picture's answer stays [n], 1 if the first loses it.

    Args:
        speedups: ascending.
        same: [speedups, n], whether the answer is the dense model's.
    """
    steps = same.long().cumprod(0).sum(0)  # how many speedups in a row keep the answer
    return torch.tensor([1.0, *speedups], dtype=torch.double)[steps]


def comes_back(same: Tensor) -> Tensor:
    """Which pictures have their answer again at a speedup above one that lost it [n]."""
    return (same & ~same.long().cumprod(0).bool()).any(0)
