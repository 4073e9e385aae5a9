"""Builds each peer with its fastest setting for one request at a time on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cpu.artefacts import artefact, timm_model
from benchmarks.cpu.call import Call
from benchmarks.cpu.job import Job
from benchmarks.cpu.onnx_peers import onnxruntime_call, openvino_call
from benchmarks.cpu.torch_peers import compiled_call, eager_call, torchao_call


class Peer(NamedTuple):
    # Takes an array of images, [B, 3, S, S] float32, from which all runs read.
    build: Callable[[Job, Any], Call]
    imports: tuple[str, ...]
    schedules: str  # "dense", "merged" or "any"; "" for the machine's ceilings
    unit: str = "images/s"
    precisions: tuple[str, ...] = ("float32",)


def _dsm_ext(job: Job, images: Any) -> Call:
    import torch

    import dsm_ext

    model = dsm_ext.from_timm(timm_model(job), job.schedule, precision=job.precision)
    if job.peer == "dsm_ext frozen":
        model.freeze()
    tensor = torch.from_numpy(images)
    return Call(lambda: model(tensor), job.batch, model=model)


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
_COMPILED = ("torch", "torch._inductor")
_OURS = ("float32", "bfloat16", "int8")
_EAGER = ("float32", "bfloat16")
_ONNXRUNTIME = ("float32", "int8 dynamic", "int8 static")
_OPENVINO = ("float32", "auto", "bfloat16", "int8", "int8, rest float32")
PEERS = {
    "dsm_ext": Peer(_dsm_ext, _TORCH, "any", precisions=_OURS),
    "dsm_ext frozen": Peer(_dsm_ext, _TORCH, "any", precisions=_OURS),
    "timm eager": Peer(eager_call, _TORCH, "dense", precisions=_EAGER),
    "timm compiled": Peer(compiled_call, _COMPILED, "dense", precisions=_EAGER),
    "torchao": Peer(torchao_call, (*_COMPILED, "torchao"), "dense", precisions=("int8",)),
    "onnxruntime": Peer(onnxruntime_call, ("onnxruntime",), "dense", precisions=_ONNXRUNTIME),
    "openvino": Peer(openvino_call, ("openvino",), "dense", precisions=_OPENVINO),
    "reference": Peer(eager_call, _TORCH, "merged"),
    "reference compiled": Peer(compiled_call, _COMPILED, "merged"),
    "reference onnxruntime": Peer(onnxruntime_call, ("onnxruntime",), "merged"),
    "reference openvino": Peer(openvino_call, ("openvino",), "merged", precisions=_OPENVINO),
    "sgemm torch.mm": Peer(_torch_mm, ("torch",), "", "FLOP/s"),
    "sgemm oneDNN": Peer(_onednn, ("torch",), "", "FLOP/s"),
    "copy": Peer(_copy, ("torch",), "", "B/s"),
}
CEILINGS = tuple(name for name, peer in PEERS.items() if not peer.schedules)
RIVALS = tuple(
    name
    for name, peer in PEERS.items()
    if peer.schedules and "float32" in peer.precisions and "dsm_ext" not in name
)


def images_and_logits(job: Job) -> tuple[Any, Any]:
    """The images that all peers get, and the logits of eager PyTorch for them."""
    import numpy

    with numpy.load(Path(artefact(job, "logits"))) as arrays:
        return arrays["images"], arrays["logits"]
