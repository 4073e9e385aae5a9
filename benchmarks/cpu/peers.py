"""Builds each peer with its fastest setting for one float32 request at a time on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cpu.artefacts import artefact, eager, timm_model
from benchmarks.cpu.job import Job


class Call(NamedTuple):
    run: Callable[[], Any]  # logits [B, classes]
    units: float  # images, operations or bytes of one run
    setting: str = ""
    model: Any = None


class Peer(NamedTuple):
    build: Callable[[Job, Any], Call]  # images [B, 3, S, S] as a numpy array
    imports: tuple[str, ...]
    schedules: str  # "dense", "merged" or "any"; "" for the machine's ceilings
    unit: str = "images/s"


def _dsm_ext(job: Job, images: Any) -> Call:
    import torch

    import dsm_ext

    model = dsm_ext.from_timm(timm_model(job), job.schedule)
    if job.peer == "dsm_ext frozen":
        model.freeze()
    tensor = torch.from_numpy(images)
    return Call(lambda: model(tensor), job.batch, model=model)


def _eager(job: Job, images: Any) -> Call:
    import torch

    model, tensor = eager(job), torch.from_numpy(images)

    def run() -> Any:
        with torch.inference_mode():
            return model(tensor)

    return Call(run, job.batch, "inference_mode")


def _compiled(job: Job, images: Any) -> Call:
    """AOTInductor with frozen weights, with or without max_autotune, whichever is faster.

    torch.compile packs float32 weights for MKL, and AOTInductor packs them for oneDNN. On an AMD
    Zen 5, torch.compile was no faster than eager with any setting; AOTInductor was twice as fast.
    """
    import torch

    tensor = torch.from_numpy(images)
    best: dict[str, float] = {}
    loaded: dict[str, Any] = {}
    with torch.inference_mode():
        for kind in ("aoti", "aoti_max"):
            loaded[kind] = torch._inductor.aoti_load_package(str(artefact(job, kind)))
            loaded[kind](tensor)
        for _ in range(3):
            for kind, model in loaded.items():
                best[kind] = min(best.get(kind, float("inf")), _seconds(lambda m=model: m(tensor)))
    kind = min(best, key=best.__getitem__)
    model = loaded[kind]

    def run() -> Any:
        with torch.inference_mode():
            return model(tensor)

    tuned = ", max_autotune" if kind == "aoti_max" else ""
    return Call(run, job.batch, f"AOTInductor, freezing{tuned}")


def _seconds(call: Callable[[], Any], least: float = 0.2) -> float:
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < least:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def _onnxruntime(job: Job, images: Any) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = job.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        artefact(job, "onnx"), options, providers=["CPUExecutionProvider"]
    )
    feed = {"images": images}
    return Call(lambda: session.run(None, feed)[0], job.batch, "ORT_ENABLE_ALL")


def _openvino(job: Job, images: Any) -> Call:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else OpenVINO may choose bfloat16
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job.threads,
    }
    model = openvino.Core().compile_model(str(artefact(job, "onnx")), "CPU", settings)
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(images))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor().data

    # `model` keeps the compiled model alive; the request does not.
    return Call(run, job.batch, "f32, LATENCY", model=model)


SIDE = 2048


def _torch_mm(job: Job, _: Any) -> Call:
    import torch

    a, b = torch.randn(2, SIDE, SIDE).unbind()
    return Call(lambda: torch.mm(a, b), 2 * SIDE**3, f"{SIDE} cubed")


def _onednn(job: Job, _: Any) -> Call:
    import torch

    a, b = torch.randn(2, SIDE, SIDE).unbind()
    product = onednn_linear(b, None, SIDE)
    return Call(lambda: product(a), 2 * SIDE**3, f"{SIDE} cubed, packed weight")


def onednn_linear(weight: Any, bias: Any, rows: int, gelu: bool = False) -> Callable[[Any], Any]:
    """A function x [rows, K] -> [rows, N] by oneDNN, with the weight [N, K] packed."""
    import torch

    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(weight, rows)
    after = ("gelu", [], "none") if gelu else ("none", [], "")
    return lambda x: ops._linear_pointwise(x, packed, bias, *after)


def _copy(job: Job, _: Any) -> Call:
    import torch

    source, target = torch.ones(2, 64 << 20).unbind()  # 256 MiB each, much larger than the caches
    return Call(lambda: target.copy_(source), 2 * source.nbytes, "256 MiB, read and written")


_TORCH = ("torch", "timm", "dsm_ext")
PEERS = {
    "dsm_ext": Peer(_dsm_ext, _TORCH, "any"),
    "dsm_ext frozen": Peer(_dsm_ext, _TORCH, "any"),
    "timm eager": Peer(_eager, _TORCH, "dense"),
    "timm compiled": Peer(_compiled, ("torch", "torch._inductor"), "dense"),
    "onnxruntime": Peer(_onnxruntime, ("onnxruntime",), "dense"),
    "openvino": Peer(_openvino, ("openvino",), "dense"),
    "reference": Peer(_eager, _TORCH, "merged"),
    "reference compiled": Peer(_compiled, ("torch", "torch._inductor"), "merged"),
    "reference onnxruntime": Peer(_onnxruntime, ("onnxruntime",), "merged"),
    "reference openvino": Peer(_openvino, ("openvino",), "merged"),
    "sgemm torch.mm": Peer(_torch_mm, ("torch",), "", "FLOP/s"),
    "sgemm oneDNN": Peer(_onednn, ("torch",), "", "FLOP/s"),
    "copy": Peer(_copy, ("torch",), "", "B/s"),
}
CEILINGS = tuple(name for name, peer in PEERS.items() if not peer.schedules)
RIVALS = tuple(name for name, peer in PEERS.items() if peer.schedules and "dsm_ext" not in name)


def images_and_logits(job: Job) -> tuple[Any, Any]:
    """The images that all peers get, and the logits of eager PyTorch for them."""
    import numpy

    with numpy.load(Path(artefact(job, "logits"))) as arrays:
        return arrays["images"], arrays["logits"]
