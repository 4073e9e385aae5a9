"""Measures DSM and dense ViTs beside their peers on the CPU in float32: speed, memory, threads.

    python -m benchmarks.cpu.models [--quick] [--only models,sweeps,memory,threads]

Each peer runs in a process of its own. The processes take turns of a few tenths of a second, in
several rounds. If a peer is not installed or fails, the others are measured all the same. The
result is written after every group of measurements. With --only, the other sections of an earlier
result stay. `pip install --group bench` installs the peers. While the script runs, exported models
take some GB of the temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.cpu import plans
from benchmarks.cpu.artefacts import artefact
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import PEERS, RIVALS
from benchmarks.cpu.plans import Group
from benchmarks.cpu.turns import Process, take_turns
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext_cli import integers, schedules

RESULT = RESULTS / "cpu.json"
DSM = "dsm:r=16,skip=1,local=6"
SECTIONS = ("models", "sweeps", "memory", "threads")
PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf", "torchao")


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"peers: {', '.join(RIVALS)}"
    )
    add = parser.add_argument
    sizes = ("tiny", "small", "base")
    add("--models", type=words, default=[f"deit_{size}_patch16_224" for size in sizes])
    add("--batches", type=integers, default=[1, 8])
    add("--schedules", type=schedules, default=["dense", DSM], help="separated by spaces")
    add("--peers", type=words, default=list(RIVALS), help="beside dsm_ext; default: all")
    add("--sweeps", type=words, default=list(plans.SWEEPS), help="of batch, image, r")
    add("--sweep-model", default="deit_small_patch16_224")
    add("--only", type=words, default=list(SECTIONS), help=f"sections of {','.join(SECTIONS)}")
    add("--rounds", type=int, default=9)
    add("--least", type=float, default=0.3, help="seconds of a turn")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--weights", default="", metavar="DIR", help="with MODEL.safetensors; else random weights")
    add("--json", type=Path, metavar="F", help=f"default: {RESULT.name} in benchmarks/results")
    add("--quick", action="store_true", help="only deit_tiny, few rounds, no file")
    args = parser.parse_args(argv)
    for given, known, what in (
        (args.peers, RIVALS, "--peers"),
        (args.sweeps, plans.SWEEPS, "--sweeps"),
        (args.only, SECTIONS, "--only"),
    ):
        if unknown := set(given) - set(known):
            parser.error(f"expected {what} of {', '.join(known)}, got {', '.join(unknown)}")
    if args.weights:
        args.weights = str(Path(args.weights).resolve())  # a worker's working folder is another one
    if args.quick:
        args.models = [args.models[0]]
        args.sweep_model = args.models[0]
        args.rounds, args.least = min(args.rounds, 3), 0.1
    elif args.json is None:
        args.json = RESULT
    return args


def measure(group: Group, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a group. Each row has its peer, schedule, threads and multiply-adds."""
    if group.section == "memory":
        rows = [memory(job) for job in group.jobs]
    else:
        rows = take_turns(group.jobs, args.rounds, args.least, progress, then=group.then)
    progress("")
    for job, row in zip(group.jobs, rows, strict=True):
        row |= {"peer": job.peer, "threads": job.threads}
        if job.model:
            macs = plans.multiply_adds(job.model, job.schedule, job.img_size)
            row |= {"schedule": job.schedule, "precision": job.precision, "multiply_adds": macs}
            row |= {"batch": job.batch, "img_size": job.img_size}
        if "logits_of_pictures" in row:
            row["answers"] = judge(job, row.pop("logits_of_pictures"))
        unit = PEERS[job.peer].unit
        if "rate" in row:
            speed = show(row["rate"]["median"], unit)
            print(f"    {plans.label(job):44} {speed} {row.get('answers', '')}")
        elif "growth" in row:
            print(f"    {plans.label(job):44} {row['growth'] / 2**20:.0f} MiB")
        else:
            print(f"    {plans.label(job):44} {failure(row)}")
    return {**group.title, "rows": rows}


def memory(job: Job) -> dict[str, Any]:
    progress(plans.label(job))
    process = Process(job)
    try:
        started = process.ask("start")
        return started | process.ask("memory") | (process.failure or {})
    finally:
        process.stop()


def show(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}" if unit == "images/s" else f"{rate / 1e9:.1f} G{unit}"


def failure(row: dict[str, Any]) -> str:
    if "not_installed" in row:
        return f"not installed ({row['not_installed']})"
    return f"failed: {row['failed']}"


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K    {text}", end="", file=sys.stderr, flush=True)


def versions() -> dict[str, str | None]:
    from importlib import metadata

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def judge(job: Job, file: str) -> dict[str, float]:
    """The answers of a peer's logits for all pictures, compared with eager timm's in float32."""
    import numpy
    import torch

    from dsm_ext.evaluate import Score
    from dsm_ext.images import find_images, label_images

    logits, dense = (torch.from_numpy(numpy.load(f)) for f in (file, artefact(job, "dense")))
    folder = Path(job.pictures)
    labels = torch.tensor(label_images(find_images(folder), folder, dense.shape[1]))
    score = Score()
    score.add(logits, dense, labels)
    return {"pictures": score.pictures, **score.summary()}


def run(groups: list[Group], args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Measures all groups. Writes the result after each; other sections of the file stay."""
    result: dict[str, Any] = {}
    if args.json is not None and args.json.is_file():
        result = json.loads(args.json.read_text())
    seconds = plans.estimate(groups, args.rounds, args.least)
    print(f"{len(groups)} groups of measurements, about {seconds / 60:.0f} minutes", flush=True)
    begin = time.perf_counter()
    started = set()
    for i, group in enumerate(groups):
        minutes = (time.perf_counter() - begin) / 60
        print(f"[{i + 1}/{len(groups)}, {minutes:.0f} min] {group}", flush=True)
        if group.section not in started:
            started.add(group.section)
            place = environment()
            place["machine"]["threads"] = args.threads
            place["versions"] |= versions()
            settings = {"rounds": args.rounds, "least_seconds": args.least, **settings}
            result[group.section] = {**place, "settings": settings, "groups": []}
        result[group.section]["groups"].append(measure(group, args))
        write_json(args.json, result)
    print(f"{(time.perf_counter() - begin) / 60:.0f} minutes")


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    settings = {"dtype": "float32", "weights": "file" if args.weights else "random"}
    with tempfile.TemporaryDirectory(prefix="dsm_ext_bench_") as cache:
        run(plans.groups(args, cache), args, settings)


if __name__ == "__main__":
    main()
