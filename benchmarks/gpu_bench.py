"""DSM and dense ViTs beside timm on one GPU: speed, shares, host time, precision.

    python benchmarks/gpu_bench.py [--seconds N] [--json F]

Measures what matters most first, and stops beginning new measurements when the time is up; what was
left out is listed. The file is written behind each measurement. Random weights, bfloat16.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext import reference
from dsm_ext.cli import profile
from dsm_ext.cli.common import timm_model, write_json
from dsm_ext.from_timm import from_timm
from dsm_ext.measure import environment, synchronized, time_in_turn

Calls = dict[str, Callable[[], Any]]

SIZES = {
    "S": "deit_small_patch16_224", "B": "vit_base_patch16_224", "L": "vit_large_patch16_224",
}  # fmt: skip
# The most telling ones first: there may not be time for all.
ORDER = [
    ("S", 1), ("S", 256), ("B", 256), ("B", 1), ("L", 256), ("L", 1), ("S", 8), ("S", 64), ("B", 8),
    ("B", 64), ("L", 8), ("L", 64),
]  # fmt: skip
COMPILED = [("S", 256), ("S", 1), ("B", 256), ("L", 256), ("B", 1)]
COMPILE_SECONDS = 150.0  # that compiling two models may take
MEASURE_SECONDS = 15.0
# Parts of the names of what matching and merging cost: the mean over the heads is the one's, the
# sizes and their logarithms are the other's, and so is the norm behind it, which dense blocks have
# too: the share is rather too large.
MERGING = ("match_kernel", "merge_kernel")


class Clock:
    """How much time is left."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def has(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._end


class Subject:
    """A model of timm's and ours with the same weights, and a batch for them."""

    def __init__(self, name: str, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.timm = timm_model(name).to(device, dtype)
        self.dense = from_timm(self.timm, "dense")
        self.dsm = from_timm(self.timm, "dsm")
        config = self.dense.config
        self.images = torch.randn(batch, config.in_chans, *config.img_size).to(device, dtype)

    def referenced(self) -> Callable[[Tensor], Tensor]:
        schedule = reference.plain(self.dsm.schedule)  # else it would compile in pieces
        return lambda images: reference.forward(self.timm, images, schedule)

    def call(self, model: Callable[[Tensor], Any]) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                model(self.images)

        return synchronized(run, self.images.device)

    def eager(self) -> Calls:
        return {
            "timm eager": self.call(self.timm),
            "dsm_ext dense": self.call(self.dense),
            "dsm_ext dsm": self.call(self.dsm),
            "reference eager": self.call(self.referenced()),
        }

    def compiled(self) -> tuple[Calls, dict[str, str]]:
        """torch.compile at its most thorough, and TensorRT where it is installed.

        Returns:
            The calls of those that ran, and what the others said.
        """
        mode = "max-autotune" if self.images.is_cuda else "default"
        torch.compiler.reset()  # it would remember other batches, and compile for any
        whole = functools.partial(torch.compile, mode=mode, dynamic=False, fullgraph=True)
        peers: dict[str, Callable[[], Callable[[Tensor], Any]]] = {
            "timm compiled": lambda: whole(self.timm),
            "reference compiled": lambda: whole(self.referenced()),
        }
        if importlib.util.find_spec("torch_tensorrt") is not None:
            peers["timm tensorrt"] = self.tensorrt
        calls, failed = {}, {}
        for name, compile_it in peers.items():
            try:
                call = self.call(compile_it())
                call()
                calls[name] = call
            except Exception as error:  # whatever it is, the others go on
                failed[name] = f"{type(error).__name__}: {error}"[:1500]
        return calls, failed

    def tensorrt(self) -> Callable[[Tensor], Any]:
        """Typed as the model is, replayed as a CUDA graph from now on."""
        import torch_tensorrt

        engine = torch_tensorrt.compile(self.timm, ir="dynamo", inputs=[self.images])
        return torch_tensorrt.runtime.enable_cudagraphs(engine).__enter__()

    def saved(self) -> dict[str, float]:
        """Multiply-adds for logits, in billions."""
        plan = self.dsm.plan
        return {
            "dense": plan.multiply_adds_dense_logits / 1e9,
            "dsm": plan.multiply_adds_logits / 1e9,
        }


def host_seconds(subject: Subject, calls: int = 20) -> float:
    """Of a call that is not waited for."""
    device = subject.images.device
    with torch.inference_mode():
        synchronized(lambda: subject.dsm(subject.images), device)()
        start = time.perf_counter()
        for _ in range(calls):
            subject.dsm(subject.images)
        passed = time.perf_counter() - start
    synchronized(lambda: None, device)()
    return passed / calls


def stage_seconds(subject: Subject, runs: int = 5) -> dict[str, dict[str, float]]:
    """What each stage of a forward takes: dense, with DSM, and that without the log-size bias."""
    unbiased = from_timm(subject.timm, "dsm:proportional=false")
    models = {"dense": subject.dense, "dsm": subject.dsm, "dsm unbiased": unbiased}
    return {
        name: profile.totals(profile.measure(model, subject.images, runs))
        for name, model in models.items()
    }


def kernel_shares(subject: Subject) -> dict[str, float]:
    """The share of each kernel in the device's time of one forward, the largest first."""
    on_gpu = subject.images.is_cuda
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU, kinds.CUDA] if on_gpu else [kinds.CPU]
    call = subject.call(subject.dsm)
    call()
    with torch.profiler.profile(activities=activities, acc_events=True) as profiled:
        call()
    seconds: dict[str, float] = {}
    for event in profiled.key_averages():
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if took > 0:
            seconds[event.key] = seconds.get(event.key, 0.0) + took
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: took / total for name, took in ranked}


def merging_share(shares: dict[str, float]) -> float:
    return sum(share for name, share in shares.items() if any(part in name for part in MERGING))


def precision(subject: Subject) -> dict[str, float]:
    """Of low precision against float64, in units of the largest logit: ours, and eager timm's."""
    images = subject.images[:4]
    with torch.inference_mode():
        own, eager = subject.dense(images).double(), subject.timm(images).double()
        exact = subject.timm.double()(images.double())
    scale = exact.abs().max()
    subject.timm.to(images.dtype)
    return {
        "dsm_ext": ((own - exact).abs().mean() / scale).item(),
        "timm": ((eager - exact).abs().mean() / scale).item(),
    }


def run(
    order: Sequence[tuple[str, int]],
    compiled: Iterable[tuple[str, int]],
    clock: Clock,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    write: Callable[[dict[str, Any]], None],
    least: float = 0.2,
) -> dict[str, Any]:
    """Every row, ``write`` called with the result behind each, and before its peers compile.

    Args:
        order: names in ``SIZES`` and batches; compiled: those with compiled peers beside them.
    """
    result: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "rows": []}
    result |= {"left_out": [], **environment()}
    with_compiled = list(compiled)
    for size, batch in order:
        if not clock.has(MEASURE_SECONDS):
            result["left_out"].append(f"{size}, batch {batch}")
            continue
        subject = Subject(SIZES[size], batch, device, dtype)
        calls = subject.eager()
        row: dict[str, Any] = {"model": SIZES[size], "size": size, "batch": batch, "failed": {}}
        row["gmacs"] = subject.saved()
        row["images_per_second"] = time_in_turn(calls, batch, rounds, least)
        row["host_seconds"] = host_seconds(subject)
        row["stages"] = stage_seconds(subject)
        row["kernels"] = kernel_shares(subject)
        row["merging_share"] = merging_share(row["kernels"])
        result["rows"].append(row)
        write(result)
        if (size, batch) in with_compiled:
            if clock.has(COMPILE_SECONDS):
                peers, row["failed"] = subject.compiled()
                # All of them again, so that they have been in turn.
                row["images_per_second"] = time_in_turn(calls | peers, batch, rounds, least)
                write(result)
            else:
                result["left_out"].append(f"{size}, batch {batch}, compiled")
        if batch == order[0][1]:
            row["error"] = precision(subject)  # the last, since weights change their place for it
            write(result)
        del subject, calls
        if device.type == "cuda":
            torch.cuda.empty_cache()
    write(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    results = Path(__file__).parent / "results"
    parser.add_argument("--json", type=Path, default=results / "gpu_bench.json")
    args = parser.parse_args()

    def write(result: dict[str, Any]) -> None:
        write_json(args.json, result)

    clock = Clock(args.seconds)
    run(ORDER, COMPILED, clock, torch.device(args.device), torch.bfloat16, args.rounds, write)


if __name__ == "__main__":
    main()
