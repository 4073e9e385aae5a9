"""Measures how far merging goes before answers change, and what tells the pictures that fail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study
from benchmarks.study.limits import relations, sweep
from benchmarks.study.limits.causes import MIXED_AT, causes
from benchmarks.study.limits.evidence import MASS
from benchmarks.study.limits.network import Network, of_digits, of_subject
from dsm_ext.intervals import bootstrapped

LOOKED_AT = ("guided", "DSM")  # the methods whose failures are explained
LEAST = 9  # pictures, below which thirds and ranks say nothing


def measure(study: Study) -> dict[str, Any]:
    """The caller's model and the digits': see ``network``."""
    networks = [of_subject(study.photographs()), of_digits()]
    found = [measure_network(one, study.kept, sweep.SPEEDUPS) for one in networks]
    return rounded({"mixed_at": MIXED_AT, "mass": MASS, "networks": found})


def rounded(value: Any) -> Any:
    """The same nested lists and dicts with floats of five significant digits."""
    if isinstance(value, dict):
        return {name: rounded(of) for name, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def measure_network(network: Network, kept: Kept, speedups: tuple[float, ...]) -> dict[str, Any]:
    """All figures of one network.

    Returns:
        ``sweep``: see ``sweep.summary``. ``limits``: by method, the share of pictures by their
        limit, the share that fails, and of these the share whose answer comes back. ``why``: by
        method of ``LOOKED_AT``, see ``explain``. ``masked``: see ``causes``.
    """
    print(f"  {network.name}, {len(network.images)} pictures", flush=True)
    runs = sweep.sweep(network, kept, speedups)
    known = kept.get(f"causes {network.name}", lambda: causes(network, LOOKED_AT))
    values = {name: torch.tensor(of) for name, of in known.items() if name != "masked"}
    result: dict[str, Any] = {
        "name": network.name,
        "pictures": len(network.images),
        "sweep": sweep.summary(runs, network.labels),
        "limits": {name: _limits(runs, name) for name in sweep.METHODS},
        "masked": known["masked"],
        "typical": {name: _quantiles(of) for name, of in values.items()},
    }
    if len(network.images) >= LEAST:
        result["why"] = {name: explain(runs, name, values) for name in LOOKED_AT}
    return result


def explain(runs: list[Any], method: str, values: dict[str, Tensor]) -> dict[str, Any]:
    """What goes with the failures of a method.

    Returns:
        ``correlations``: of each cause with the limit, the limit without what the margin explains,
        and the KL at ``MIXED_AT``. ``target``: the speedup at which failures are told, and
        ``kept`` there. ``thirds``: the answers kept by size (rows) and margin (columns).
        ``bins``: the answers kept by each cause. ``predictors``: see ``relations.predictors``.
    """
    speedups, same = sweep.kept_answers(runs, method)
    limits = sweep.limits(speedups, same)
    kl = next(r["kl"] for r in runs if r["method"] == method and r["speedup"] == MIXED_AT)
    own = {name: values[name] for name in ("margin", "size", "busy")}
    own["mixed"] = values[f"mixed {method}"]
    margin = own["margin"]
    target = relations.target(speedups, limits)
    kept = limits >= target
    return {
        "correlations": {
            name: {
                "limit": relations.correlation(of, limits),
                "limit_without_margin": None
                if name == "margin"
                else relations.correlation(of, limits, without=margin),
                "kl": relations.correlation(of, torch.tensor(kl)),
            }
            for name, of in own.items()
        },
        "target": target,
        "kept": bootstrapped(100 * kept.double()).to_dict(),
        "thirds": relations.by_thirds(kept, own["size"], margin),
        "bins": {name: relations.bins(kept, of) for name, of in own.items()},
        "predictors": relations.predictors(own, ~kept),
    }


def _limits(runs: list[Any], method: str) -> dict[str, Any]:
    speedups, same = sweep.kept_answers(runs, method)
    limits = sweep.limits(speedups, same)
    failed = limits < speedups[-1]
    back = sweep.comes_back(same)[failed]
    return {
        "reached": speedups[-1],
        "shares": {str(s): 100 * (limits == s).double().mean().item() for s in [1.0, *speedups]},
        "median": limits.median().item(),
        "failed": 100 * failed.double().mean().item(),
        "comes_back": bootstrapped(100 * back.double()).to_dict() if len(back) else None,
    }


def _quantiles(values: Tensor) -> list[float]:
    """The values at a third and two thirds, the borders of the thirds."""
    return values.double().quantile(torch.tensor([1 / 3, 2 / 3], dtype=torch.double)).tolist()
