"""Peers that run in PyTorch: eager, compiled, and quantised by torchao."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.cpu.artefacts import artefact, eager
from benchmarks.cpu.call import Call, fastest
from benchmarks.cpu.job import Job


def eager_call(job: Job, images: Any) -> Call:
    import torch

    dtype = getattr(torch, job.precision)
    return Call(_run(eager(job).to(dtype), images, dtype), job.batch, "inference_mode")


def compiled_call(job: Job, images: Any) -> Call:
    """AOTInductor with frozen weights; in float32 also with max_autotune, if that is faster.

    torch.compile packs float32 weights for MKL, and AOTInductor packs them for oneDNN. On an AMD
    Zen 5, torch.compile was no faster than eager with any setting; AOTInductor was twice as fast.
    """
    import torch

    def load(kind: str) -> Call:
        with torch.inference_mode():
            model = torch._inductor.aoti_load_package(str(artefact(job, kind)))
        tuned = ", max_autotune" if kind == "aoti_max" else ""
        run = _run(model, images, getattr(torch, job.precision))
        return Call(run, job.batch, f"AOTInductor, freezing{tuned}")

    kinds = ("aoti", "aoti_max") if job.precision == "float32" else ("aoti",)
    return fastest({kind: partial(load, kind) for kind in kinds})


def torchao_call(job: Job, images: Any) -> Call:
    """int8 weights and dynamic int8 activations, compiled; the rest in bfloat16."""
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = eager(job).bfloat16()
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    compiled = torch.compile(model, options={"freezing": True})
    run = _run(compiled, images, torch.bfloat16, torch.no_grad)  # torch.compile freezes only so
    return Call(run, job.batch, "rest bfloat16, compiled, freezing")


def _run(model: Any, images: Any, dtype: Any, mode: Any = None) -> Callable[[], Any]:
    """Runs the model on the images, in inference mode or another mode without gradients."""
    import torch

    tensor, mode = torch.from_numpy(images), mode or torch.inference_mode

    def run() -> Any:
        with mode():
            return model(tensor.to(dtype)).float()

    return run
