"""``dsm-ext predict``: embeddings, logits, classes or tokens of many pictures, as Parquet."""

from __future__ import annotations

import argparse
from typing import Any

from dsm_ext.cli.interrupts import interrupts
from dsm_ext.cli.model_arguments import OF_NAMES, given, path_of
from dsm_ext.cli.output import check_output_file, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.predict.engine import EngineSettings
from dsm_ext.predict.run import Cluster, Job
from dsm_ext.predict.run import run as run_job
from dsm_ext_reader.sources import Sources


def run(args: argparse.Namespace) -> int:
    _check(args)
    check_output_file(args.json, "--json")
    device, dtype = run_settings(args)
    sources = Sources(args.images, image_column=args.image_column, key_column=args.key_column)
    predictor: dict[str, Any] = {
        "model": args.model,
        "schedule": args.schedule,
        "precision": args.precision,
        "outputs": args.outputs,
        "embedding_dtype": "float16" if args.float16 else "float32",
        "device": str(device),
        "dtype": dtype,
        "threads": args.threads,
    }
    if path_of(args) is None:
        predictor |= {name: getattr(args, name) for name in OF_NAMES if given(args, name)}
    engine = EngineSettings(
        predictor, args.batch, args.decoders, args.timeout, args.max_pixels or None
    )
    cluster = None
    if args.ray is not None:
        cluster = Cluster(args.ray, args.cpus_per_worker, args.gpus_per_worker)
    with interrupts():
        summary = run_job(
            Job(
                sources,
                args.out,
                engine,
                workers=args.workers,
                cluster=cluster,
                retry_errors=args.retry_errors,
                shard_seconds=args.shard_seconds,
            )
        )
    print(_text(summary, args.out))
    write_json(args.json, summary)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("batch", "workers", "decoders", "timeout"):
        value = getattr(args, name)
        if value is not None and not value > 0:  # neither is NaN
            raise ValueError(f"expected --{name} to be positive, got {value:g}")
    for name in ("max_pixels", "shard_seconds", "cpus_per_worker", "gpus_per_worker"):
        if not getattr(args, name) >= 0:
            option = name.replace("_", "-")
            raise ValueError(f"expected --{option} to be 0 or more, got {getattr(args, name):g}")


def _text(summary: dict[str, Any], out: str) -> str:
    counts = summary["manifest"]["counts"]
    errors = f", {summary['errors']} of them with an error" if summary["errors"] else ""
    done = (
        f"{summary['rows']} pictures{errors}, in {summary['seconds']:.1f} s: "
        f"{summary['images_per_second']:.1f} images/s"
        if summary["rows"]
        else "nothing was left to do"
    )
    return (
        f"{done}\n"
        f"{out}: {counts['rows']} rows, {counts['errors']} with an error, in {counts['shards']} "
        "files"
    )
