"""Which measurements models.py makes, and how long they take."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import CEILINGS, PEERS

SWEEPS = ("batch", "image", "r")
SWEEP_PEERS = ("timm eager", "timm compiled", "openvino", "reference openvino")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
IMAGES = (224, 384, 512)
COUNTS = range(0, 17, 2)
RIVAL_COUNTS = range(0, 17, 4)  # each needs an export and a process
MEMORY_BATCHES = (8, 32)


@dataclass(frozen=True)
class Group:
    """Jobs that take turns with each other."""

    section: str
    model: str
    jobs: tuple[Job, ...]
    then: tuple[str, ...] = ("profile",)  # requests to each worker after the last round

    @property
    def title(self) -> dict[str, Any]:
        first = next(job for job in self.jobs if job.model)
        return {"model": self.model, "batch": first.batch, "img_size": first.img_size}

    def __str__(self) -> str:
        t = self.title
        return f"{self.section}: {t['model']}, batch {t['batch']}, {t['img_size']} pixels"


def label(job: Job) -> str:
    if not job.model:
        return job.peer
    precision = "" if job.precision == "float32" else f", {job.precision}"
    threads = f", {job.threads} thread" if job.threads == 1 else ""
    return f"{job.peer} {job.schedule}{precision}{threads}"


def groups(args: argparse.Namespace, folder: str) -> list[Group]:
    """All groups of jobs that the arguments ask for."""

    def job(peer: str, **changes: Any) -> Job:
        common = {"threads": args.threads, "weights": args.weights, "cache": folder}
        return Job(peer, **(common | changes))

    def jobs(peers: list[str], schedules: list[str], **changes: Any) -> list[Job]:
        """Every peer at every schedule that it can run."""
        return [
            job(peer, schedule=schedule, **changes)
            for peer in ["dsm_ext", *peers]
            for schedule in schedules
            if PEERS[peer].schedules in ("any", "dense" if schedule == "dense" else "merged")
        ]

    ceilings = [job(name) for name in CEILINGS]
    sweepers = [peer for peer in SWEEP_PEERS if peer in args.peers]
    found: list[Group] = []

    def add(section: str, model: str, chosen: list[Job]) -> None:
        found.append(Group(section, model, tuple(chosen)))

    if "models" in args.only:
        for model in args.models:
            for batch in args.batches:
                rows = jobs(args.peers, args.schedules, model=model, batch=batch)
                add("models", model, ceilings + rows)
    if "threads" in args.only:
        for model in args.models:
            for batch in args.batches:
                at = {"model": model, "batch": batch}
                rows = jobs([], args.schedules, **at)
                add("threads", model, rows + jobs([], args.schedules, **at, threads=1))
    if "memory" in args.only:
        for model in args.models:
            for batch in MEMORY_BATCHES if not args.quick else MEMORY_BATCHES[:1]:
                rows = jobs(
                    ["dsm_ext frozen", "timm eager"], args.schedules, model=model, batch=batch
                )
                add("memory", model, rows)
    if "sweeps" in args.only:
        model = args.sweep_model
        if "batch" in args.sweeps:
            for batch in BATCHES if not args.quick else BATCHES[:2]:
                rows = jobs(sweepers, args.schedules, model=model, batch=batch)
                add("batch", model, rows)
        if "image" in args.sweeps:
            for size in IMAGES if not args.quick else IMAGES[:2]:
                rows = jobs(sweepers, args.schedules, model=model, img_size=size)
                add("image", model, rows)
        if "r" in args.sweeps:
            at = {"model": model, "batch": 8 if not args.quick else 1}
            rows = jobs(sweepers, ["dense"], **at)
            for schedule in (s for s in args.schedules if s != "dense"):
                for r in COUNTS if not args.quick else COUNTS[::4]:
                    peers = [p for p in sweepers if PEERS[p].schedules == "merged"]
                    rows += jobs(peers if r in RIVAL_COUNTS else [], [with_r(schedule, r)], **at)
            add("r", model, rows)
    return found


def with_r(schedule: str, r: int) -> str:
    """The schedule with another r, such as "dsm:r=8,skip=1" for "dsm:r=16,skip=1"."""
    name, _, rest = schedule.partition(":")
    kept = [part for part in rest.split(",") if part and not part.startswith("r=")]
    return f"{name}:{','.join([f'r={r}', *kept])}"


@cache
def multiply_adds(model: str, schedule: str, img_size: int) -> int:
    """Multiply-adds of one image's logits. The last block counts only the class token's row."""
    import timm
    import torch

    from dsm_ext import Schedule
    from dsm_ext.timm_features import config_of

    with torch.device("meta"):
        config = config_of(timm.create_model(model, img_size=img_size))
    return Schedule.parse(schedule, config).plan(config).multiply_adds_logits


def estimate(groups: list[Group], rounds: int, least: float) -> float:
    """An estimate of the seconds, from figures of two AVX-512 cores."""
    total = 0.0
    made = set()
    for group in groups:
        for job in group.jobs:
            total += 5
            run = 0.0
            if job.model:
                macs = multiply_adds(job.model, job.schedule, job.img_size) * job.batch
                run = 2 * macs / (80e9 * job.threads)
                key = (job.model, job.batch, job.schedule, job.img_size)
                kinds = {"logits"}
                if "compiled" in job.peer:
                    kinds.add(f"aoti {job.precision}")
                elif "onnxruntime" in job.peer or "openvino" in job.peer:
                    kinds.add("onnx")
                    if "int8" in job.precision:
                        kinds.add(f"{job.peer} {job.precision.split(',')[0]}")
                for kind in kinds:
                    if (kind, key) not in made:
                        made.add((kind, key))
                        total += {"logits": 8, "onnx": 14}.get(kind, 60 if "aoti" in kind else 20)
                        total += 45 * ("aoti" in kind and job.schedule != "dense")
            turns = 4 if group.section == "memory" else rounds + 1
            total += turns * (max(least, run) + min(least, run) + 0.05)
    return total
