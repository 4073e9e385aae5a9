"""Runs the command line in this process, and Python in other processes."""

import os
import subprocess
import sys
from pathlib import Path

from dsm_ext.cli import main

ROOT = Path(__file__).parent.parent


def run(capsys, *arguments, status=0):
    """Run ``dsm-ext`` in this process; gives what it printed. It must return this status."""
    assert main([*map(str, arguments)]) == status, capsys.readouterr().err
    return capsys.readouterr()


def start(*arguments, variables=(), **kwargs):
    """Start ``dsm-ext`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), **dict(variables)}
    return subprocess.Popen(
        [sys.executable, "-m", "dsm_ext_cli", *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def python(*arguments, path=ROOT, **kwargs):
    """Run a process of Python that imports ``dsm_ext`` from this path. Gives the process."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(path), **kwargs},
        cwd=path,
    )


def resident_kib():
    """The resident memory of this process, in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
