"""Measures DSM and dense ViTs beside timm on one GPU: speed, shares, host time, precision.

    python -m benchmarks.gpu.bench [--seconds N] [--json F]

The most important measurements come first. When the time is up, the script starts no new one and
lists those that are left out. It writes the file after each measurement. A peer that compiles runs
in a process of its own, which is ended if it takes too long. Random weights, bfloat16.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, ROOT, module_command
from benchmarks.gpu import subject as subjects
from benchmarks.gpu.process import GRACE, run_for
from benchmarks.gpu.subject import Subject
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment

Row = tuple[str, int]  # size and batch

SIZES = {
    "S": "deit_small_patch16_224", "B": "vit_base_patch16_224", "L": "vit_large_patch16_224",
}  # fmt: skip
FIRST: list[Row] = [("S", 256), ("B", 256), ("L", 256), ("S", 1), ("B", 1), ("L", 1)]
THEN: list[Row] = [("S", 64), ("S", 8), ("B", 64), ("B", 8), ("L", 64), ("L", 8)]
KERNELS: list[Row] = [("S", 256), ("B", 256), ("L", 256), ("S", 1)]  # rows whose kernels are listed
COMPILED: list[tuple[str, Row]] = [
    ("timm compiled", ("S", 256)),
    ("timm compiled", ("B", 256)),
    ("reference graph", ("S", 256)),
    ("timm compiled", ("S", 1)),
    ("timm compiled", ("L", 256)),
    ("reference graph", ("S", 1)),
    ("reference compiled", ("S", 256)),
    ("reference compiled", ("S", 1)),
    ("timm compiled", ("B", 1)),
    ("reference graph", ("B", 256)),
    ("reference graph", ("L", 256)),
]
MEASURE_SECONDS = 15.0
KERNELS_SECONDS = 6.0
COMPILE_SECONDS = 45.0  # with less time left, no peer starts to compile
PATIENCE = 300.0  # seconds for one peer that compiles


class Clock:
    """Counts down the time that is left."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()

    def has(self, seconds: float) -> bool:
        return seconds < self.left()


def in_a_process(
    name: str, row: Row, device: torch.device, dtype: torch.dtype, rounds: int, seconds: float
) -> dict[str, Any]:
    """Runs this script with ``--peer``: its result, or the reason of its failure."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.json"
        command = [*module_command("gpu.bench"), "--peer", name, "--model", SIZES[row[0]]]
        command += ["--batch", str(row[1]), "--device", str(device), "--rounds", str(rounds)]
        command += ["--dtype", str(dtype).removeprefix("torch."), "--json", str(file)]
        status, output = run_for(command, seconds, folder=ROOT)
        if status is None:
            return {"failed": f"not ready after {seconds:.0f} s"}
        if status != 0:
            return {"failed": (output.strip() or "no reason given")[-1500:]}
        return json.loads(file.read_text())


def run(
    first: Sequence[Row],
    then: Sequence[Row],
    compiled: Sequence[tuple[str, Row]],
    kernels: Sequence[Row],
    clock: Clock,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    write: Callable[[dict[str, Any]], None],
    least: float = 0.2,
) -> dict[str, Any]:
    """Measures all rows, and calls ``write`` with the result after each measurement.

    Args:
        first, then: rows to measure before and after the peers that compile.
        compiled: the peers that compile, each with its row.
        kernels: rows whose kernels are listed. They come last, because the profiler stays attached.
    """
    result: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "rows": []}
    result |= {"left_out": [], **environment()}
    rows: dict[Row, dict[str, Any]] = {}
    kept = KERNELS_SECONDS * len(kernels)  # seconds for the kernels, which come last

    def written(at: Row, row: dict[str, Any]) -> None:
        rows[at] = row
        result["rows"] = list(rows.values())
        write(result)

    def measured(at: Row) -> None:
        if not clock.has(MEASURE_SECONDS + kept):
            result["left_out"].append(f"{at[0]}, {at[1]}")
            return
        subject = Subject(SIZES[at[0]], at[1], device, dtype)
        subjects.measure(subject, at[0], rounds, least, lambda row: written(at, row))

    def freed() -> None:
        if device.type == "cuda":
            torch.cuda.empty_cache()

    for at in first:
        measured(at)
        freed()
    for name, at in compiled:
        if at not in rows:
            continue
        if not clock.has(COMPILE_SECONDS + kept):
            result["left_out"].append(f"{name} on {at[0]}, {at[1]}")
            continue
        patience = min(PATIENCE, clock.left() - kept - GRACE)
        rows[at]["peers"][name] = in_a_process(name, at, device, dtype, rounds, patience)
        write(result)
    for at in then:
        measured(at)
        freed()
    for at in kernels:
        if at not in rows:
            continue
        if not clock.has(KERNELS_SECONDS):
            result["left_out"].append(f"kernels of {at[0]}, {at[1]}")
            continue
        subject = Subject(SIZES[at[0]], at[1], device, dtype)
        subjects.attempt(rows[at], "kernels", lambda of=subject: subjects.kernel_shares(of))
        write(result)
    write(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--peer", choices=subjects.PEERS, help="one peer, for --model, --batch")
    parser.add_argument("--model", default=SIZES["S"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--json", type=Path, default=RESULTS / "gpu_bench.json")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)

    def write(result: dict[str, Any]) -> None:
        write_json(args.json, result)

    if args.peer:
        subject = Subject(args.model, args.batch, device, dtype)
        rates = subjects.beside_peers(subject, [args.peer], args.rounds, least=0.2)
        skips = subjects.graphs_left_out()
        write({"images_per_second": rates, "graphs_left_out": skips})
        return
    compiled = list(COMPILED)
    if importlib.util.find_spec("torch_tensorrt") is not None:
        compiled[1:1] = [("timm tensorrt", row) for row in FIRST[:2]]
    clock = Clock(args.seconds)
    run(FIRST, THEN, compiled, KERNELS, clock, device, dtype, args.rounds, write)


if __name__ == "__main__":
    main()
