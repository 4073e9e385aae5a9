"""Where the stand-in cannot run, its script reports skipped tests, or fails if it is required."""

import os
import subprocess
import sys

import pytest
from commands import ROOT

# Replaces Python: prints the version of another torch, and passes all other calls on.
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then echo "{torch}"; else exec "{python}" "$@"; fi
"""


def run(folder, torch, **variables):
    """Call run.sh with a build folder without CUDA and a Python that has this torch."""
    python = folder / "python"
    python.write_text(PYTHON.format(torch=torch, python=sys.executable))
    python.chmod(0o755)
    (folder / "CMakeCache.txt").touch()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DSM_EXT_STAND_IN")}
    path = {"PATH": os.pathsep.join([str(folder), kept["PATH"]])}
    command = ["bash", "tests/stand_in/run.sh", str(folder), "-q"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=kept | path | variables
    )


@pytest.mark.parametrize(
    "torch, reason",
    [
        ("2.12 for CUDA 13", "and torch 2.12 for CUDA 13 is installed"),
        ("2.14 for CUDA none", "and torch 2.14 for CUDA none is installed"),
        ("2.14 for CUDA 13", "is built without CUDA"),
    ],
)
def test_it_fails_where_it_is_required_and_cannot_run(torch, reason, tmp_path):
    done = run(tmp_path, torch, DSM_EXT_STAND_IN_REQUIRED="1")
    assert done.returncode == 1
    assert done.stderr.startswith("stand-in: cannot run: ") and reason in done.stderr


def test_elsewhere_its_tests_are_skipped_with_the_reason(tmp_path):
    done = run(tmp_path, "2.12 for CUDA 13")
    assert done.returncode == 0, done.stderr
    assert "SKIPPED [2] tests/stand_in/test_devices.py: " in done.stdout
    assert "and torch 2.12 for CUDA 13 is installed" in done.stdout
    assert "2 skipped" in done.stdout
    assert "passed" not in done.stdout


def test_continuous_integration_requires_it():
    assert "DSM_EXT_STAND_IN_REQUIRED=1 make stand-in" in (ROOT / ".ci" / "run").read_text()
