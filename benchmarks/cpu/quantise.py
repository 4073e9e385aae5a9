"""Makes int8 models as users of OpenVINO and ONNX Runtime do, from exported ONNX files.

Models that need calibration see every second image of their job (``Job.fold``), so that they can
be judged on the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cpu.artefacts import artefact, images_of
from benchmarks.cpu.job import Job


def _calibration(job: Job) -> Iterator[Any]:
    """Whole batches of the images that this fold is calibrated on."""
    chosen = images_of(job)[job.fold :: 2]
    for start in range(0, len(chosen) - job.batch + 1, job.batch):
        yield chosen[start : start + job.batch]


def openvino_int8(job: Job, path: Path) -> None:
    """NNCF's post-training quantisation, with its settings for Transformers."""
    import nncf
    import openvino

    model = openvino.Core().read_model(str(artefact(job, "onnx")))
    quantised = nncf.quantize(
        model,
        nncf.Dataset([*_calibration(job)]),  # it is read several times
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
    )
    openvino.save_model(quantised, str(path), compress_to_fp16=False)


def onnx_dynamic(job: Job, path: Path) -> None:
    """ONNX Runtime's dynamic quantisation: one scale for each output channel of a weight."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = _prepared(job, path)
    quantize_dynamic(prepared, path, per_channel=True, weight_type=QuantType.QInt8)


def onnx_static(job: Job, path: Path) -> None:
    """ONNX Runtime's static quantisation, of the products alone."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _calibration(job)

        def get_next(self) -> Any:
            images = next(self.batches, None)
            return None if images is None else {"images": images}

    quantize_static(
        _prepared(job, path),
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _prepared(job: Job, path: Path) -> Path:
    """The exported model after the preparation that ONNX Runtime asks for."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared-" + path.name)
    quant_pre_process(str(artefact(job, "onnx")), str(prepared), skip_symbolic_shape=True)
    return prepared
