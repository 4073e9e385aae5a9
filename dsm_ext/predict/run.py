"""One run of ``dsm-ext predict``: sources in, a folder of Parquet shards out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from dsm_ext.predict.engine import Engine, EngineSettings
from dsm_ext.predict.engine_processes import EngineProcesses, shared
from dsm_ext.predict.predictor import Predictor
from dsm_ext.predict.progress import Progress
from dsm_ext.predict.result.columns import ERROR, schema
from dsm_ext.predict.result.output_folder import OutputFolder
from dsm_ext_reader.filesystems import without_secrets
from dsm_ext_reader.sources import Sources

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs the engines, and what it reserves for each one."""

    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Job:
    """What to predict, by what, and where the result goes.

    Args:
        sources: as ``Sources`` takes them.
        out: the folder of the result, as ``OutputFolder`` takes it.
        engine: the model and how pictures are decoded for it.
        workers: the number of engines. None: one, or with Ray as many as fit.
        cluster: None: this machine alone.
        retry_errors: do pictures anew that have an error in ``out``.
        shard_seconds: as ``OutputFolder`` takes it.
    """

    sources: Sources
    out: str
    engine: EngineSettings
    workers: int | None = None
    cluster: Cluster | None = None
    retry_errors: bool = False
    shard_seconds: float = 60


def run(job: Job) -> dict[str, Any]:
    """Predict all pictures that ``job.out`` does not have.

    If it is stopped, the rows that are finished are kept, and the same job goes on from there. A
    line on stderr says so.

    Returns:
        ``rows`` and ``errors`` of this run; its ``seconds``; ``images_per_second``, over all of
        them; ``steady_images_per_second``, from the first rows on, which leaves out the start of
        processes; and the ``manifest`` of the folder.

    Raises:
        KeyboardInterrupt: a signal ended it. The folder is in order.
        Other errors: as ``Predictor``, ``OutputFolder``, ``Sources`` and ``run_on_ray``.
    """
    predictor = Predictor(**job.engine.predictor)
    settings = {**predictor.settings, "max_pixels": job.engine.max_pixels}
    output = OutputFolder(
        job.out,
        settings,
        schema(predictor.columns),
        retry_errors=job.retry_errors,
        shard_seconds=job.shard_seconds,
    )
    here = job.cluster is None and (job.workers or 1) == 1
    own = predictor if here else None
    del predictor  # other processes load models of their own
    complete = closed = False
    try:
        before = output.rows, output.errors
        with Progress(output.rows, job.sources.count) as progress:
            start = time.monotonic()
            if job.cluster is not None:
                _run_on_ray(job, job.cluster, output, progress.report)
            else:
                _run_here(job, own, output, progress.report)
            end = time.monotonic()
        complete = True
    finally:
        try:
            manifest = output.close(complete)
            closed = True
        finally:
            if not (complete and closed):
                _tell_what_is_kept(job, output)
    rows, errors = output.rows - before[0], output.errors - before[1]
    return {
        "rows": rows,
        "errors": errors,
        "seconds": end - start,
        "images_per_second": rows / (end - start),
        "steady_images_per_second": progress.steady(end),
        "manifest": manifest,
    }


def _tell_what_is_kept(job: Job, output: OutputFolder) -> None:
    out = without_secrets(job.out)
    if output.kept:
        text = f"{out} keeps {output.kept} rows; the same command goes on after them"
    else:
        text = f"{out} has no rows yet"
    print(f"dsm_ext: {text}", file=sys.stderr)


def _run_here(job: Job, predictor: Predictor | None, output: OutputFolder, report: Report) -> None:
    rows = errors = 0
    with (
        _engines(job, predictor, output) as engines,
        closing(engines.run(job.sources.units())) as batches,
    ):
        for batch in batches:
            output.write(batch)
            rows += batch.num_rows
            errors += batch.num_rows - batch.column(ERROR).null_count
            report(rows, errors)


@contextmanager
def _engines(
    job: Job, predictor: Predictor | None, output: OutputFolder
) -> Iterator[Engine | EngineProcesses]:
    """One engine in this process, or ``job.workers`` engines in processes of their own."""
    done = output.done if len(output.done) else None
    engines: Engine | EngineProcesses
    if predictor is not None:
        engines = Engine(job.engine, done, predictor)
    else:
        assert job.workers is not None
        settings = shared(job.engine, job.workers, torch.get_num_threads())
        engines = EngineProcesses(settings, job.workers, done)
    try:
        yield engines
    finally:
        engines.close()


def _run_on_ray(job: Job, cluster: Cluster, output: OutputFolder, report: Report) -> None:
    from dsm_ext.predict.ray_data import Layout, run_on_ray

    layout = Layout(job.workers, cluster.cpus, cluster.gpus)
    decoders = job.engine.decoders or max(int(cluster.cpus), 1)
    predictor = dict(job.engine.predictor)
    for name in ("model", "weights"):  # processes of Ray have other current folders
        path = predictor.get(name)
        if isinstance(path, str | os.PathLike) and os.path.exists(path):
            predictor[name] = os.path.abspath(path)
    if cluster.gpus:
        predictor["device"] = None  # the GPU that Ray gives to the engine
    try:
        run_on_ray(
            cluster.address,
            job.sources.units(),
            replace(job.engine, predictor=predictor, decoders=decoders),
            output,
            layout=layout,
            report=report,
        )
    except BaseException:
        with suppress(OSError, ValueError):  # it must not hide the error that ended the run
            output.settle()  # counts what other processes have written
        raise
