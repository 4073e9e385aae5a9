"""Timing in turn, and what a figure must be kept with."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dsm_ext._native import __version__


def time_in_turn(
    calls: dict[str, Callable[[], Any]], images: int, rounds: int = 9, least: float = 0.2
) -> dict[str, dict[str, float]]:
    """Images per second of each call: median and quartiles over rounds.

    In each round every call has its turn, so a machine that slows down slows them all; a turn
    repeats the call for ``least`` seconds. One turn of each goes before, uncounted.

    Args:
        calls: by name; each processes ``images`` images and has finished when it returns.
        images: per call.
    """
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            count = 0
            while count == 0 or time.perf_counter() - start < least:
                call()
                count += 1
            if turn > 0:
                rates[name].append(count * images / (time.perf_counter() - start))
    return {name: summarize(values) for name, values in rates.items()}


def summarize(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def synchronized(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The call, finished when it returns on an accelerator too."""
    if device.type != "cuda":
        return call

    def wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return wait


def environment() -> dict[str, Any]:
    """Machine, versions and commit."""
    import timm

    return {
        "machine": {
            "processor": _processor(),
            "architecture": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "dsm_ext": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
        "commit": _commit(),
    }


def _processor() -> str:
    """With family and model where its name tells no generation, as a virtual machine's may not."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    processor = fields.get("model name") or platform.processor() or "unknown"
    if "cpu family" in fields and not any(c.isdecimal() for c in processor):
        processor += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return processor


def _commit() -> str | None:
    """Of the checkout that this package is imported from, marked where files differ from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
