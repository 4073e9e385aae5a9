"""Builds, tests, checks memory and measures on a GPU, in ten minutes and without a network.

    python -m benchmarks.gpu.report [--minutes N] [--json F] [--only STEP] [--no-build]

It uses the Python that runs it, the torch of that Python, and the CUDA compiler that CMake finds.
If a step fails or is not possible, the result says so and the next steps run. The exit status is 1
if the build or a test failed. `make gpu-report` runs this script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, module_command
from benchmarks.gpu.process import run_for
from benchmarks.gpu.tables import gpu

BUILD = ROOT / "build" / "gpu"
STEPS = ("tests", "memcheck", "racecheck", "benchmark")
RESULT = RESULTS / "gpu.json"
STARTING = 30  # seconds for starting the benchmark and for ending a late peer
TAIL = 8000  # the last characters of a failed step's output, which are kept


def call(
    command: list[str], seconds: float, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Runs a step: its status, None if it took too long, and after a failure its last output."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    everywhere = os.environ | {"PYTHONPATH": os.pathsep.join(search)}
    start = time.monotonic()
    status, output = run_for(command, seconds, everywhere | (environment or {}), ROOT)
    step = {"status": status, "seconds": round(time.monotonic() - start, 1)}
    return step if status == 0 else step | {"output": output[-TAIL:]}


def build(seconds: float) -> dict[str, Any]:
    """Builds library and module into the package's folder, as an editable installation does."""
    end = time.monotonic() + seconds
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", *generator, "-S", str(ROOT), "-B", str(BUILD), "-DDSM_EXT_CUDA=ON"]
    configure += ["-DDSM_EXT_PYTHON=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    jobs = str(os.cpu_count() or 1)
    commands = [configure, ["cmake", "--build", str(BUILD), "--parallel", jobs, "--target", "_C"]]
    for part in ("python", "core"):
        install = ["cmake", "--install", str(BUILD), "--component", part]
        commands.append([*install, "--prefix", str(ROOT / "dsm_ext")])
    total = 0.0
    for command in commands:
        step = call(command, end - time.monotonic())
        total += step["seconds"]
        if step["status"] != 0:
            return step
    return {"status": 0, "seconds": round(total, 1)}


def device() -> dict[str, Any] | None:
    """Name, memory and versions of the GPU; None if torch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0] or None
    except FileNotFoundError:
        return None


def tests(seconds: float) -> dict[str, Any]:
    """Runs the tests that need a GPU. The result counts them and names those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command.append(str(ROOT / "tests"))
        # Our tests turn warnings into errors. Other plugins of pytest may warn, so none is loaded.
        step = call(command, seconds, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
        if report.is_file():
            step |= count(report)
    return step


def count(report: Path) -> dict[str, Any]:
    """Counts the tests that passed, failed and were skipped, from JUnit's XML."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return {"passed": passed, "failed": failed, "skipped": skipped}


def memory_check(tool: str, seconds: float) -> dict[str, Any]:
    """Runs compute-sanitizer on every kernel of ours."""
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(found).is_file():
        return {"status": None, "output": "compute-sanitizer is not installed"}
    check = module_command("gpu.check_kernels")
    # Without torch's cache each tensor has its own allocation, so every access outside is seen.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    # Check our kernels alone: racecheck reports cuDNN's, which use barriers that it cannot see.
    command = [found, "--tool", tool, "--kernel-name", "kns=dsm_ext", "--error-exitcode", "9"]
    return call([*command, *check], seconds, environment)


def benchmark(seconds: float, file: Path) -> dict[str, Any]:
    """Runs gpu/bench.py, and takes what it has written when the time is up."""
    file.unlink(missing_ok=True)
    command = [*module_command("gpu.bench"), "--json", str(file.resolve())]
    step = call([*command, "--seconds", f"{seconds - STARTING:.0f}"], seconds)
    measured = json.loads(file.read_text()) if file.is_file() else {}
    file.unlink(missing_ok=True)
    return {"step": step, **measured}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--only", choices=STEPS, help="that step again; the file keeps the others")
    parser.add_argument(
        "--no-build", action="store_true", help="use the library that is in the package's folder"
    )
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes

    def left(most: float = 1e9, keep: float = 0.0) -> float:
        """Seconds for a step: at most ``most``, with ``keep`` left for the later steps."""
        return min(most, end - time.monotonic() - keep)

    known = args.only and args.json.is_file()
    result = json.loads(args.json.read_text()) if known else {}
    if not args.no_build:
        result["build"] = build(left(300))
        if result["build"]["status"] != 0:
            print(result["build"]["output"])
            if result["build"]["status"] is None:
                print("the build took too long; run it again: it goes on where it stopped")
            return 1
    result["device"] = device()
    if result["device"] is None:
        print("no CUDA device is present: built, and nothing measured")
        return 1
    args.json.parent.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "tests": lambda: tests(left(180, keep=300)),
        "memcheck": lambda: memory_check("memcheck", left(40, keep=280)),
        "racecheck": lambda: memory_check("racecheck", left(90, keep=240)),
        "benchmark": lambda: benchmark(left(), args.json.with_suffix(".part.json")),
    }
    for name in [args.only] if args.only else STEPS:
        print(f"{name}, {left():.0f} s left", flush=True)
        result[name] = steps[name]()
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(gpu(result))
    return int(result.get("tests", {}).get("status", 0) != 0)


if __name__ == "__main__":
    sys.exit(main())
