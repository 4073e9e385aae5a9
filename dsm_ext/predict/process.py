"""The threads and the device of a process that predicts, on its own or as an actor of Ray."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping

import torch

from dsm_ext.error_text import described


def assigned_by_ray() -> Mapping[str, float]:
    """What Ray gave to this actor, such as {"CPU": 2.0}. Empty if this process is no actor."""
    ray = sys.modules.get("ray")  # an actor's process has imported it
    if ray is None or not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    return context.get_assigned_resources() if context.get_actor_id() else {}


def set_threads(threads: int | None, assigned: Mapping[str, float]) -> None:
    """Set torch's threads. None takes as many as the assigned CPUs, if there are any.

    Raises:
        ValueError, TypeError: not a positive integer.
    """
    if threads is None:
        if "CPU" in assigned:
            # Ray sets OMP_NUM_THREADS alike, but not where the variable is set already.
            torch.set_num_threads(max(1, int(assigned["CPU"])))
        return
    if isinstance(threads, bool) or operator.index(threads) < 1:
        raise ValueError(
            f"dsm_ext.Predictor: expected threads to be positive, got {described(threads)}"
        )
    torch.set_num_threads(operator.index(threads))


def device_for(device: torch.device | str | None, assigned: Mapping[str, float]) -> torch.device:
    """The device to predict on. None takes an assigned GPU, or else the CPU.

    Raises:
        ValueError: torch does not know the device, or it is not present.
    """
    if device is None:
        device = "cuda" if assigned.get("GPU") else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"dsm_ext.Predictor: expected device to be one that torch knows, got "
            f"{described(device)}"
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"dsm_ext.Predictor: no CUDA device is present for device {found}")
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found
