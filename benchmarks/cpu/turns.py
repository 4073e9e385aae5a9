"""Processes that take turns: one works, the others wait for a line on stdin."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.common import ROOT, module_command
from benchmarks.cpu.artefacts import last_line
from benchmarks.cpu.job import Job
from dsm_ext.timing import summarize

WORKER = tuple(module_command("cpu.worker"))
PAUSE = 0.05  # seconds before a turn, in which the threads of the last process go to sleep


class Process:
    """A worker process, which gets requests as lines of JSON.

    If a request fails or takes longer than ``patience`` seconds, the process ends. Then ``failure``
    has the reason, and every later request returns {}.
    """

    def __init__(self, job: Job, command: Sequence[str] = WORKER, patience: float = 1800.0) -> None:
        self.job = job
        self.failure: dict[str, str] | None = None
        self._patience = patience
        self._open = contextlib.ExitStack()
        stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._stderr = self._open.enter_context(stderr)
        threads = str(job.threads)
        self._process = subprocess.Popen(
            [*command, job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The reply to a request; {} if the request failed or the process has ended."""
        if self.failure is not None:
            return {}
        reply = self._ask({"do": do, **arguments})
        if "failed" in reply or "not_installed" in reply:
            self.failure = reply
            self.stop()
            return {}
        return reply

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except BrokenPipeError:
            return {"failed": self._end()}
        if not select.select([stdout], [], [], self._patience)[0]:
            return {"failed": f"no answer to {request['do']!r} in {self._patience:.0f} s"}
        line = stdout.readline()
        return json.loads(line) if line else {"failed": self._end()}

    def _end(self) -> str:
        status = self._process.wait()
        self._stderr.seek(0)
        return f"ended with status {status}: {last_line(self._stderr.read())}"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._open.close()


def take_turns(
    jobs: Sequence[Job],
    rounds: int,
    least: float,
    say: Callable[[str], None] = lambda text: None,
    command: Sequence[str] = WORKER,
    pause: float = PAUSE,
    then: Sequence[str] = ("profile",),
) -> list[dict[str, Any]]:
    """For each job, the rates of its rounds with median and quartiles, or why it failed.

    A first round is not counted. In each round every process has one turn, so a machine that slows
    down slows all of them.

    Args:
        then: the requests after the last round, whose replies are added.
    """
    processes: list[Process] = []
    rows: list[dict[str, Any]] = []
    rates: list[list[float]] = [[] for _ in jobs]
    try:
        for job in jobs:
            say(f"starting {job.peer} {job.schedule} {job.precision}")
            process = Process(job, command)
            processes.append(process)
            rows.append(process.ask("start"))
        for turn in range(rounds + 1):
            say(f"round {turn} of {rounds}")
            for process, own in zip(processes, rates, strict=True):
                time.sleep(pause)
                reply = process.ask("turn", least=least)
                if reply and turn > 0:
                    own.append(reply["rate"])
        for process, row, own in zip(processes, rows, rates, strict=True):
            row.update(process.failure or {"rate": summarize(own), "rounds": own})
            for do in then:
                row.update(process.ask(do))
            row.update(process.failure or {})
    finally:
        for process in processes:
            process.stop()
    return rows
