"""The command line in this process, and Python in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

from dsm_ext.cli import main

ROOT = Path(__file__).parent.parent


def run(capsys, *arguments, status=0):
    """What ``dsm-ext`` prints to both streams; it must return this status."""
    assert main([*map(str, arguments)]) == status, capsys.readouterr().err
    return capsys.readouterr()


def start(*arguments, variables=(), **kwargs):
    """``dsm-ext`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), **dict(variables)}
    return subprocess.Popen(
        [sys.executable, "-m", "dsm_ext_cli", *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def python(*arguments, path=ROOT, **kwargs):
    """A finished process of Python that imports ``dsm_ext`` from this path."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(path), **kwargs},
        cwd=path,
    )


def resident_kib():
    """The memory that this process holds, in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
