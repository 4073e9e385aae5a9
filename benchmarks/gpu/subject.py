"""One model and batch on a GPU: its measurements, and its peers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dsm_ext import reference
from dsm_ext.cli import profile
from dsm_ext.cli.model_arguments import timm_model
from dsm_ext.timing import synchronized, time_in_turn
from dsm_ext.timm_models.from_timm import from_timm

Calls = dict[str, Callable[[], Any]]
Forward = Callable[[Tensor], Any]


class Subject:
    """timm's model, ours with the same random weights, and a batch of images."""

    def __init__(self, name: str, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.timm = timm_model(name).to(device, dtype)
        self.dense = from_timm(self.timm, "dense")
        self.dsm = from_timm(self.timm, "dsm")
        config = self.dense.config
        self.images = torch.randn(batch, config.in_chans, *config.img_size).to(device, dtype)

    def call(self, model: Forward) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                model(self.images)

        return synchronized(run, self.images.device)

    def own(self) -> Calls:
        return {"dsm_ext dense": self.call(self.dense), "dsm_ext dsm": self.call(self.dsm)}

    def saved(self) -> dict[str, float]:
        """Multiply-adds of the logits of one image, in billions."""
        plan = self.dsm.plan
        return {
            "dense": plan.multiply_adds_dense_logits / 1e9,
            "dsm": plan.multiply_adds_logits / 1e9,
        }


# Peers


def referenced(subject: Subject) -> Forward:
    schedule = reference.plain(subject.dsm.schedule)  # else torch.compile would split it
    return lambda images: reference.forward(subject.timm, images, schedule)


def compiled(model: Forward, mode: str) -> Forward:
    """Compiles for this batch size only, as one graph; fails if that is not possible."""
    return torch.compile(model, mode=mode, dynamic=False, fullgraph=True)


def tensorrt(subject: Subject) -> Forward:
    """TensorRT in the model's dtype; calls replay a CUDA graph."""
    import torch_tensorrt

    engine = torch_tensorrt.compile(subject.timm, ir="dynamo", inputs=[subject.images])
    return torch_tensorrt.runtime.enable_cudagraphs(engine).__enter__()


PEERS: dict[str, Callable[[Subject], Forward]] = {
    "timm eager": lambda subject: subject.timm,
    "timm compiled": lambda subject: compiled(subject.timm, "max-autotune"),
    "timm tensorrt": tensorrt,
    "reference eager": referenced,
    "reference compiled": lambda subject: compiled(referenced(subject), "max-autotune"),
    # Without the search for the best kernels, which takes minutes.
    "reference graph": lambda subject: compiled(referenced(subject), "reduce-overhead"),
}


def beside_peers(
    subject: Subject, names: list[str], rounds: int, least: float
) -> dict[str, dict[str, float]]:
    """Images per second of ours and of peers, which take turns."""
    calls = subject.own() | {name: subject.call(PEERS[name](subject)) for name in names}
    return time_in_turn(calls, len(subject.images), rounds, least)


def graphs_left_out() -> int:
    """The number of parts for which torch.compile could not make a CUDA graph."""
    return int(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])


# What is measured of ours


def host_seconds(subject: Subject, windows: int = 21, calls: int = 20) -> float:
    """Seconds until a call returns, without waiting for the GPU: the median over windows."""
    passed = []
    with torch.inference_mode():
        for _ in range(windows):
            synchronized(lambda: subject.dsm(subject.images), subject.images.device)()
            start = time.perf_counter()
            for _ in range(calls):
                subject.dsm(subject.images)
            passed.append((time.perf_counter() - start) / calls)
    synchronized(lambda: None, subject.images.device)()
    return statistics.median(passed)


def stage_seconds(subject: Subject, runs: int = 5) -> dict[str, dict[str, float]]:
    """Seconds of each stage: dense, with DSM, and with DSM without the log-size bias."""
    unbiased = from_timm(subject.timm, "dsm:proportional=false")
    models = {"dense": subject.dense, "dsm": subject.dsm, "dsm unbiased": unbiased}
    return {
        name: profile.totals(profile.measure(model, subject.images, runs))
        for name, model in models.items()
    }


def kernel_shares(subject: Subject) -> dict[str, float]:
    """The share of each kernel in the GPU time of one forward, the largest first."""
    on_gpu = subject.images.is_cuda
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU, kinds.CUDA] if on_gpu else [kinds.CPU]
    call = subject.call(subject.dsm)
    call()
    with torch.profiler.profile(activities=activities, acc_events=True) as profiled:
        call()
    seconds: dict[str, float] = {}
    for event in profiled.key_averages():
        # CPU events carry the time of their kernels too, which would count twice.
        if on_gpu and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if took > 0:
            seconds[event.key] = seconds.get(event.key, 0.0) + took
    total = sum(seconds.values())
    ranked = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: took / total for name, took in ranked}


def precision(subject: Subject) -> dict[str, float]:
    """Mean errors against float64 as a share of the largest logit: ours and eager timm's."""
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


def attempt(row: dict[str, Any], name: str, measure: Callable[[], Any]) -> None:
    """Puts a measurement into the row, or its error, so that the next ones still run."""
    try:
        row[name] = measure()
    except Exception as error:
        row["failed"][name] = f"{type(error).__name__}: {error}"[:1500]


def measure(
    subject: Subject, size: str, rounds: int, least: float, written: Callable[[dict], None]
) -> None:
    """Measures a row beside the eager peers, and calls ``written`` when parts of it are there."""
    row: dict[str, Any] = {"size": size, "batch": len(subject.images), "failed": {}, "peers": {}}
    row["gmacs"] = subject.saved()
    eager = ["timm eager", "reference eager"]
    attempt(row, "images_per_second", lambda: beside_peers(subject, eager, rounds, least))
    written(row)
    attempt(row, "host_seconds", lambda: host_seconds(subject))
    attempt(row, "stages", lambda: stage_seconds(subject))
    if len(subject.images) > 1:  # the last one, because it changes the weights' dtype
        attempt(row, "error", lambda: precision(subject))
    written(row)
