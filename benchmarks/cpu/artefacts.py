"""Makes what peers load: images with eager logits, exported and quantised models.

Each file is made once, in a process of its own, so that no peer's memory or time includes it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, module_command
from benchmarks.cpu.job import Job

TIMEOUT = 1200
RANDOM = 16  # images of a job without pictures, or one batch if that is more

_MODEL = ("model", "img_size", "weights")
_CALL = (*_MODEL, "batch", "schedule")
_CALIBRATED = (*_CALL, "pictures", "fold")
# For each kind of artefact: the ending of its file, and the fields of a job on which it depends.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pictures": (".pictures.npy", (*_MODEL, "pictures")),
    "dense": (".dense.npy", (*_MODEL, "pictures")),
    "logits": (".npz", (*_CALL, "pictures")),
    "onnx": (".onnx", _CALL),
    "onnx_dynamic": (".dynamic.onnx", _CALL),
    "onnx_static": (".static.onnx", _CALIBRATED),
    "openvino_int8": (".xml", _CALIBRATED),
    "aoti": (".pt2", (*_CALL, "precision", "threads")),
    "aoti_max": (".max.pt2", (*_CALL, "precision", "threads")),
}


def artefact(job: Job, kind: str) -> Path:
    """The path of an artefact. Makes the artefact first if the file is missing.

    Raises:
        RuntimeError: the artefact cannot be made. A later call fails at once, without a new try.
    """
    path = _path(job, kind)
    failure = path.with_name(path.name + ".failed")
    if not path.exists() and not failure.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [*module_command("cpu.artefacts"), kind, job.to_json()]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
            )
            if done.returncode != 0 or not path.exists():
                failure.write_text(last_line(done.stderr))
        except subprocess.TimeoutExpired:
            failure.write_text(f"took more than {TIMEOUT} s")
    if failure.exists():
        raise RuntimeError(f"{kind}: {failure.read_text()}")
    return path


def last_line(text: str) -> str:
    """The error of a traceback: its last line that names an exception."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or ["no message"])[-1].strip()[:300]


def _path(job: Job, kind: str) -> Path:
    ending, fields = KINDS[kind]
    key = " ".join(f"{name}={getattr(job, name)}" for name in fields)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return Path(job.cache) / f"{job.model}-{digest}{ending}"


def timm_model(job: Job) -> Any:
    """timm's model in eval mode, with the same weights in every process."""
    import timm
    import torch

    torch.manual_seed(0)
    path = Path(job.weights) / f"{job.model}.safetensors"
    file = str(path) if job.weights and path.is_file() else ""
    return timm.create_model(job.model, img_size=job.img_size, checkpoint_path=file).eval()


def eager(job: Job) -> Any:
    """An ``nn.Module``: timm's model if the schedule is dense, else the PyTorch reference."""
    import torch

    from dsm_ext import Schedule, reference
    from dsm_ext.timm_models.config import config_of

    model = timm_model(job)
    if job.schedule == "dense":
        return model
    schedule = reference.plain(Schedule.parse(job.schedule, config_of(model)))

    class Reference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return reference.forward(self.model, images, schedule)

    return Reference().eval()


def images_of(job: Job) -> Any:
    """All images of a job, [n, 3, S, S] float32: its pictures, or random ones."""
    import numpy

    return numpy.load(artefact(job, "pictures"), mmap_mode="r")


def _write(job: Job, kind: str, path: Path) -> None:
    partial = path.with_name("partial-" + path.name)
    if kind in ("onnx_dynamic", "onnx_static", "openvino_int8"):
        from benchmarks.cpu import quantise

        getattr(quantise, kind)(job, partial)
    else:
        _write_torch(job, kind, partial)
    if kind == "openvino_int8":  # the weights are in a file beside the .xml
        partial.with_suffix(".bin").rename(path.with_suffix(".bin"))
    partial.rename(path)


def _write_torch(job: Job, kind: str, path: Path) -> None:
    import numpy
    import torch

    torch.set_num_threads(job.threads)
    with torch.no_grad():
        if kind == "pictures":
            numpy.save(path, _read_pictures(job) if job.pictures else _random_images(job))
            return
        images = torch.from_numpy(images_of(job)[: job.batch].copy())
        model = eager(job)
        if kind == "dense":
            parts = [model(torch.from_numpy(x.copy())) for x in _batches(images_of(job), 50)]
            numpy.save(path, torch.cat(parts).numpy())
        elif kind == "logits":
            with path.open("wb") as file:
                numpy.savez(file, images=images.numpy(), logits=model(images).numpy())
        elif kind == "onnx":
            _write_onnx(model, images, path)
        else:
            dtype = getattr(torch, job.precision)
            torch._inductor.aoti_compile_and_package(
                torch.export.export(model.to(dtype), (images.to(dtype),)),
                package_path=str(path),
                inductor_configs={"freezing": True, "max_autotune": kind == "aoti_max"},
            )


def _batches(images: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _random_images(job: Job) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (max(job.batch, RANDOM), 3, job.img_size, job.img_size)
    return torch.randn(shape, generator=generator).numpy()


def _read_pictures(job: Job) -> Any:
    import torch

    from dsm_ext.images import Batches, find_images, transform_for

    transform = transform_for(timm_model(job))
    batches = Batches(find_images(job.pictures), transform, 50)
    return torch.cat([images for images, _ in batches]).numpy()


def _write_onnx(model: Any, images: Any, path: Path) -> None:
    import torch
    from onnxscript import opset18 as op

    # The exporter does not support a stable sort. ONNX's TopK is stable: of equal values, the one
    # with the lower index comes first.
    def stable_sort(x: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
        length = op.Reshape(op.Gather(op.Shape(x), dim, axis=0), op.Constant(value_ints=[1]))
        return op.TopK(x, length, axis=dim, largest=descending, sorted=True)

    torch.onnx.export(
        model,
        (images,),
        path,
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=["logits"],
        custom_translation_table={torch.ops.aten.sort.stable: stable_sort},
        verbose=False,
    )


if __name__ == "__main__":
    asked = Job.from_json(sys.argv[2])
    _write(asked, sys.argv[1], _path(asked, sys.argv[1]))
