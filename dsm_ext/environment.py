"""The machine, the versions and the commit that a result comes from."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from dsm_ext._native import __version__

# What low precision runs by, as /proc/cpuinfo spells it.
LOW_PRECISION = ("avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def environment() -> dict[str, Any]:
    """The machine, the versions and the commit, to be stored with a result."""
    import timm

    cpu = _cpuinfo()
    flags = cpu.get("flags", "").split()
    return {
        "machine": {
            "processor": _processor(cpu),
            "architecture": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "low_precision": [name for name in LOW_PRECISION if name in flags],
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


def threads_text() -> str:
    """Torch's number of threads in words, for a title."""
    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"


def _cpuinfo() -> dict[str, str]:
    """What /proc/cpuinfo says of the first core. Empty if there is no such file."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return fields


def _processor(fields: dict[str, str]) -> str:
    """The processor's name.

    Virtual machines may report a name without a number. Then family and model are added.
    """
    processor = fields.get("model name") or platform.processor() or "unknown"
    if "cpu family" in fields and not any(c.isdecimal() for c in processor):
        processor += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return processor


def _commit() -> str | None:
    """The commit of this checkout, with "-dirty" if files differ from it. None without git."""
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
