"""Runs one peer in a process of its own: it reads requests as JSON lines and answers each by one.

    python -m benchmarks.cpu.worker JOB < requests

A request is {"do": NAME, ...}, where NAME is a method of ``Worker``: start, turn, memory, profile,
answers.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cpu.artefacts import images_of, last_line
from benchmarks.cpu.call import Call
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import PEERS, images_and_logits

# The precisions for which OpenVINO and ONNX Runtime need pictures.
CALIBRATED = ("int8", "int8, rest float32", "int8 static")
# The largest allowed error, as a share of the largest logit. With merging, two float32 forwards may
# decide a near-tie differently. Then other tokens merge, and the logits move by some per cent. In
# low precision this check only finds a peer that computes something else: how good its answers are
# is measured on pictures.
TOLERANCE = {"dense": 1e-3, "merged": 5e-2, "low precision": 0.5}


class NotInstalled(Exception):
    pass


class Worker:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.peer = PEERS[job.peer]
        self.call: Call
        self.images: Any = None  # [B, 3, S, S], which the call reads
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
        logits = None
        if self.job.model:
            self.images, logits = images_and_logits(self.job)
        _reset_peak()
        self.base = _status("VmRSS")
        self.call = self.peer.build(self.job, self.images)
        found = self.call.run()
        reply: dict[str, Any] = {"setting": self.call.setting} if self.call.setting else {}
        if self.job.model:
            reply["error_to_eager"] = check(found, logits, self.job)
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

    def answers(self) -> dict[str, Any]:
        """The path of a file with the logits of all pictures, [n, classes].

        A peer that is calibrated is built a second time. Each half of the pictures is judged by the
        model that was calibrated on the other half.
        """
        import numpy

        pictures = images_of(self.job)
        folds = (0, 1) if calibrated(self.job) else (None,)
        found = None
        for fold in folds:
            if fold is not None and fold != self.job.fold:
                self.call = self.peer.build(replace(self.job, fold=fold), self.images)
            chosen = [i for i in range(len(pictures)) if fold is None or i % 2 != fold]
            for start in range(0, len(chosen), self.job.batch):
                at = chosen[start : start + self.job.batch]
                self.images[: len(at)] = pictures[at]
                logits = numpy.asarray(self.call.run())[: len(at)]
                if found is None:
                    found = numpy.empty((len(pictures), logits.shape[1]), numpy.float32)
                found[at] = logits
        path = Path(self.job.cache) / f"answers-{os.getpid()}.npy"
        numpy.save(path, found)
        return {"logits_of_pictures": str(path)}


def calibrated(job: Job) -> bool:
    """Whether a peer's model depends on pictures that it was calibrated on."""
    return job.precision in CALIBRATED and ("openvino" in job.peer or "onnxruntime" in job.peer)


def check(found: Any, expected: Any, job: Job) -> dict[str, float]:
    """Errors of logits against eager PyTorch's, as a share of the largest logit.

    Raises:
        ArithmeticError: the error is so large that the peer computes something else.
    """
    import numpy

    errors = numpy.abs(numpy.asarray(found) - expected).max(1) / numpy.abs(expected).max()
    kind = "dense" if job.schedule == "dense" else "merged"
    allowed = TOLERANCE[kind if job.precision == "float32" else "low precision"]
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
