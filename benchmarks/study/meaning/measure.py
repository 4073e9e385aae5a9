"""Windows against global steps of the same cost and delay, on pictures of several kinds."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.study.common.errors import answers, errors
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.likeness import likeness
from benchmarks.study.common.part import Study
from benchmarks.study.meaning.figures import GROUPS, figures, mean_ratio
from benchmarks.study.meaning.kinds import ONE_BLOCK_PAIRS, PAIRS, SKIPS, Kind, kinds, schedules
from benchmarks.study.meaning.kinds import windows as windows_of
from benchmarks.study.shift.measure import spread
from dsm_ext import Schedule

LIKENESS_PICTURES = 50


def measure(study: Study) -> dict[str, Any]:
    """All figures of this part."""
    found, all_errors = {}, {}
    windows: tuple[int, ...] = ()
    for kind in kinds(study.photographs()):
        kept = all_errors[kind.name] = _errors(kind, study.kept)
        windows = windows_of(kind.model.config)
        found[kind.name] = {
            "pictures": len(kind.images),
            "speedups": kind.speedups,
            **figures(kept, _cosines(kind, study.kept)),
        }
        print(f"  {kind.name}", flush=True)
    return {
        "skips": SKIPS,
        "removed": ONE_BLOCK_PAIRS,
        "likeness": {
            "block": SKIPS[0] + 1,
            "pairs": ONE_BLOCK_PAIRS[0],
            "pictures": LIKENESS_PICTURES,
        },
        "kinds": found,
        "permuted_to_natural": {
            name: {
                group: {
                    str(window): mean_ratio(
                        all_errors[name], group, window, over=all_errors[permuted]
                    )
                    for window in windows
                    if window
                }
                for group in GROUPS
            }
            for name, permuted in PAIRS.items()
        },
    }


def _errors(kind: Kind, kept: Kept) -> dict[str, dict[str, Any]]:
    """The errors of all schedules on pictures of one kind."""
    dense: list[Tensor] = []

    def compared(schedule: Schedule) -> dict[str, Any]:
        if not dense:  # not where all errors are known
            dense.append(answers(kind.model, "dense", kind.images))
        return errors(answers(kind.model, schedule, kind.images), dense[0])

    return {
        key: kept.get(f"{len(kind.images)} {kind.name}: {key}", partial(compared, schedule))
        for key, schedule in schedules(kind.model.config, kind.speedups).items()
    }


def _cosines(kind: Kind, kept: Kept) -> dict[int, dict[str, list[float]]]:
    """How alike the patches of pictures are in the first block that may merge, by window."""
    config = kind.model.config
    images = kind.images[spread(len(kind.images), LIKENESS_PICTURES)]

    def cosines(window: int) -> dict[str, list[float]]:
        block, r = SKIPS[0], ONE_BLOCK_PAIRS[0]
        found = likeness(kind.source, config, images, block, r, window)
        return {name: values.tolist() for name, values in found.items()}

    return {
        window: kept.get(
            f"{len(kind.images)} {kind.name}: likeness {window}", partial(cosines, window)
        )
        for window in windows_of(config)
    }
