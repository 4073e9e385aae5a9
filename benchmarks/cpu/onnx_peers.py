"""Peers that run exported models: ONNX Runtime and OpenVINO."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.cpu.artefacts import artefact
from benchmarks.cpu.call import Call, fastest
from benchmarks.cpu.job import Job

# What ONNX Runtime and OpenVINO load for a precision.
_ONNX = {"float32": "onnx", "int8 dynamic": "onnx_dynamic", "int8 static": "onnx_static"}
# OpenVINO's hint for a precision. For "auto" and "int8" OpenVINO chooses it itself.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8, rest float32": "f32"}


def onnxruntime_call(job: Job, images: Any) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = job.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        artefact(job, _ONNX[job.precision]), options, providers=["CPUExecutionProvider"]
    )
    feed = {"images": images}
    return Call(lambda: session.run(None, feed)[0], job.batch, "ORT_ENABLE_ALL")


def openvino_call(job: Job, images: Any) -> Call:
    """The batch in one request, or its images in requests of their own, whichever is faster."""
    makers = {"batch": partial(_openvino_batch, job, images)}
    if job.batch > 1:
        makers["images"] = partial(_openvino_images, job, images)
    return fastest(makers)


def _openvino_batch(job: Job, images: Any) -> Call:
    import openvino

    model, setting = _compile(job, "LATENCY")
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor().data

    # `model` keeps the compiled model alive; the request does not.
    return Call(run, job.batch, setting, model=model)


def _openvino_images(job: Job, images: Any) -> Call:
    import numpy
    import openvino

    model, setting = _compile(replace(job, batch=1), "THROUGHPUT")
    requests = [model.create_infer_request() for _ in images]
    for i, request in enumerate(requests):
        request.set_input_tensor(openvino.Tensor(images[i : i + 1], shared_memory=True))

    def run() -> Any:
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()
        return numpy.concatenate([request.get_output_tensor().data for request in requests])

    return Call(run, job.batch, f"{setting}, a request for each image", model=model)


def _compile(job: Job, hint: str) -> tuple[Any, str]:
    """A compiled model, and its settings in words."""
    import openvino

    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": job.threads}
    if job.precision in _HINTS:
        settings["INFERENCE_PRECISION_HINT"] = _HINTS[job.precision]
    kind = "openvino_int8" if job.precision.startswith("int8") else "onnx"
    model = openvino.Core().compile_model(str(artefact(job, kind)), "CPU", settings)
    chosen = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return model, f"{chosen}, {hint}"
