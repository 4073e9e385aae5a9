"""Trains and measures the models of the part, two at a time, and compares SAM with AdamW."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, module_command
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study
from benchmarks.study.sharpness.compare import compare
from benchmarks.study.sharpness.photographs import measure_photographs
from benchmarks.study.sharpness.settings import Settings


def measure(study: Study, settings: Settings | None = None) -> dict[str, Any]:
    """All figures of the part.

    Args:
        study: needs no subject; with one, its model is measured too. The state folder keeps a
            checkpoint and values for each digits model, so a stopped study goes on with the epoch
            or the value that is missing.
        settings: None: the study's.
    """
    settings = settings or Settings()
    runs = settings.runs()
    values = study.kept.get(settings.to_json(), lambda: _measured(study.state, settings, runs))
    result = compare(settings, dict(zip(runs, values, strict=True)))
    if study.subject is not None:
        subject = study.subject
        kept = Kept(study.state / "photographs.json", subject.fingerprint())
        result["photographs"] = measure_photographs(subject, kept)
    return result


def _measured(state: Path, settings: Settings, runs: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """What the process of each run measured."""
    with ThreadPoolExecutor(settings.jobs) as pool:
        return list(pool.map(lambda run: _run(state, settings, *run), runs))


def _run(state: Path, settings: Settings, training: str, seed: int) -> dict[str, Any]:
    """Train and measure one model in a process of its own.

    Raises:
        RuntimeError: the process failed; the message has the end of what it wrote.
    """
    folder = state.resolve() / f"{training.replace(', ', '-').replace(' ', '-')}-{seed}"
    command = module_command("study.sharpness.worker")
    arguments = [str(folder), training, str(seed), settings.to_json(), str(os.getpid())]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    print(f"{training}, seed {seed}: starts", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=one_thread, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{training}, seed {seed}: the worker failed:\n{done.stdout[-2000:]}")
    print(f"{training}, seed {seed}: measured", file=sys.stderr, flush=True)
    return json.loads((folder / "measured.json").read_text())["values"]
