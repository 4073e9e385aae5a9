"""Runs one peer in a process of its own: it reads requests as JSON lines and answers each by one.

    python -m benchmarks.cpu.worker JOB < requests

A request is {"do": NAME, ...}, where NAME is a method of ``Worker``: start, turn, memory, profile.
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

# The largest allowed error, as a share of the largest logit. With merging, two float32 forwards may
# decide a near-tie differently. Then other tokens merge, and the logits move by some per cent.
TOLERANCE = {"dense": 1e-3, "merged": 5e-2}


class NotInstalled(Exception):
    pass


class Worker:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.peer = PEERS[job.peer]
        self.call: Call
        self.last = float("inf")  # seconds of the last run
        self.base = 0  # resident bytes before the model is built

    def start(self) -> dict[str, Any]:
        """Imports and builds the peer, runs it once, and checks its logits."""
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
        """Repeats the call for ``least`` seconds; the rate in units a second."""
        if self.last < least:  # else a short call would suffer from the last process's cache lines
            self.call.run()
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < least:
            self.call.run()
            count += 1
        seconds = time.perf_counter() - start
        self.last = seconds / count
        return {"rate": count * self.call.units / seconds}

    def memory(self) -> dict[str, Any]:
        """The bytes that the model adds to the process, at the peak of a run.

        Memory that only building the model needed does not count.
        """
        ctypes.CDLL(None).malloc_trim(0)
        _reset_peak()
        for _ in range(3):
            self.call.run()
        peak = _status("VmHWM")
        return {"base": self.base, "peak": peak, "growth": peak - self.base}

    def profile(self) -> dict[str, Any]:
        """Seconds of each stage in the run of median length; {} if the peer has no profile."""
        model = self.call.model
        if not hasattr(model, "profile"):
            return {}
        import torch

        from dsm_ext.cli.profile import measure

        images = torch.from_numpy(images_and_logits(self.job)[0])
        return {"profile": measure(model, images, 5)}


def check(found: Any, expected: Any, schedule: str) -> dict[str, float]:
    """Errors of logits against eager PyTorch's, as a share of the largest logit.

    Raises:
        ArithmeticError: the error is so large that the peer computes something else.
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
    """Forgets the peak so far, so that memory of the imports does not count for the model."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    # Libraries may print to stdout. Replies go to a copy of it, and prints go to stderr.
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
