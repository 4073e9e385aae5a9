"""Processes that end, and all of theirs with them, when they have taken too long."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 15.0  # seconds between being asked to end and being ended


def run_for(
    command: Sequence[str],
    seconds: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[int | None, str]:
    """Runs a command in a process group of its own.

    Returns:
        Its status, 127 where there is no such command, None where it took too long; and what it
        said on both outputs. Asked to end, pytest still writes its report.
    """
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            text=True,
            errors="replace",
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        return 127, str(error)
    try:
        output, _ = process.communicate(timeout=max(seconds, 1.0))
        return process.returncode, output
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return None, output
