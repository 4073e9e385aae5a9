"""One peer in a process of its own, which does what it is asked: one JSON line in, one out.

    python -m benchmarks.cpu.worker JOB < requests

Requests are {"do": "start" | "turn" | "memory" | "profile", ...}, see the functions of those names.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.cpu.artefacts import last_line
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import PEERS, Call, images_and_logits

# Of the largest logit. Two float32 forwards may order a near-tie differently, after which other
# tokens merge; that moves an image's logits by some per cent.
TOLERANCE = {"dense": 1e-3, "merged": 5e-2}


class NotInstalled(Exception):
    pass


class Worker:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.peer = PEERS[job.peer]
        self.call: Call
        self.last = float("inf")  # seconds of a run
        self.base = 0  # bytes resident before the model

    def start(self) -> dict[str, Any]:
        """Import, build and check the peer; runs it once."""
        for name in self.peer.imports:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                raise NotInstalled(error.name or name) from error
        if "torch" in self.peer.imports:
            import torch

            torch.set_num_threads(self.job.threads)
        images = logits = None
        if self.job.model:
            images, logits = images_and_logits(self.job)
        _reset_peak()
        self.base = _status("VmRSS")
        self.call = self.peer.build(self.job, images)
        found = self.call.run()
        reply: dict[str, Any] = {"setting": self.call.setting} if self.call.setting else {}
        if self.job.model:
            reply["error_to_eager"] = check(found, logits, self.job.schedule)
        return reply

    def turn(self, least: float) -> dict[str, Any]:
        """Repeat the call for so many seconds; units a second."""
        if self.last < least:  # a short call would feel what the process before left in the caches
            self.call.run()
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < least:
            self.call.run()
            count += 1
        seconds = time.perf_counter() - start
        self.last = seconds / count
        return {"rate": count * self.call.units / seconds}

    def memory(self) -> dict[str, Any]:
        """Bytes that the model and its runs add to the process, at the peak of a run.

        What building the model needed for a moment is left out.
        """
        ctypes.CDLL(None).malloc_trim(0)
        _reset_peak()
        for _ in range(3):
            self.call.run()
        peak = _status("VmHWM")
        return {"base": self.base, "peak": peak, "growth": peak - self.base}

    def profile(self) -> dict[str, Any]:
        """Seconds of each stage, of the run of median length; nothing where the peer has none."""
        model = self.call.model
        if not hasattr(model, "profile"):
            return {}
        import torch

        from dsm_ext.cli.profile import measure

        images = torch.from_numpy(images_and_logits(self.job)[0])
        return {"profile": measure(model, images, 5)}


def check(found: Any, expected: Any, schedule: str) -> dict[str, float]:
    """How far logits are from eager PyTorch's, as a share of the largest.

    Raises:
        ArithmeticError: so far that another thing was computed.
    """
    import numpy

    errors = numpy.abs(numpy.asarray(found) - expected).max(1) / numpy.abs(expected).max()
    allowed = TOLERANCE["dense" if schedule == "dense" else "merged"]
    if not errors.max() <= allowed:
        raise ArithmeticError(f"off by {errors.max():.1e} of the scale, {allowed:.0e} is allowed")
    return {
        "largest": float(errors.max()),
        "median": float(numpy.median(errors)),
        "images_equal": float((errors < TOLERANCE["dense"]).mean()),
    }


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def _reset_peak() -> None:
    """What importing needed for a moment is not the model's."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    # Libraries print to stdout as they like; replies need it to themselves.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(Job.from_json(sys.argv[1]))
            reply = getattr(worker, request.pop("do"))(**request)
        except NotInstalled as error:
            reply = {"not_installed": str(error)}
        except Exception:
            traceback.print_exc()
            reply = {"failed": last_line(traceback.format_exc())}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
