"""Analyses the study's model on its pictures, and the demo's model on its digits."""

from __future__ import annotations

from typing import Any

import dsm_ext
from benchmarks.study.common.part import Study
from benchmarks.study.convergence.claims import claims
from dsm_ext import VisionTransformer, digits

MOST = 300  # pictures
# Most patches of a digit are equal background: when a twelfth of them merges, the answers change
# less than float32 can show. So more tokens merge.
OF_DIGITS = {"r": 80, "speedup": 2.3}


def measure(study: Study) -> dict[str, Any]:
    """The figures of both models by name, each with the claims that they decide."""
    subject = study.photographs()
    found = {}
    count = min(MOST, len(subject.images))
    chosen = [i * len(subject.images) // count for i in range(count)]
    found["photographs"] = study.kept.get(
        "photographs", lambda: _figures(subject.model, subject.images[chosen])
    )
    images, _ = digits.load_digits("test")
    model = dsm_ext.from_timm(digits.create_model(), "dense")
    found["digits"] = study.kept.get("digits", lambda: _figures(model, images[:MOST], **OF_DIGITS))
    return found


def _figures(model: VisionTransformer, images: Any, **options: Any) -> dict[str, Any]:
    analysis = dsm_ext.analyze(model, images, progress=True, **options)
    return {**analysis.to_dict(), "claims": claims(analysis.measured)}
