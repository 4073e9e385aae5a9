"""Measures all precisions on the CPU, ours beside peers as their users run them.

    DSM_EXT_DATA=DIR python -m benchmarks.cpu.precision [--only speed,large,memory] [--cache DIR]

Speed and memory are measured as in models.py. DIR holds the weights of DeiT-T and the pictures, as
for deit_tiny.py. With it, DeiT-T also answers for every picture, and its answers are compared with
those of eager timm in float32. Peers that need calibration are calibrated on one half of the
pictures and judged on the other half, both ways.

With --cache, exported and quantised models stay in that folder, and a second run does not make them
again. So a run with `--rounds 1 --least 0 --json F` prepares a longer one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.cpu import models
from benchmarks.cpu.job import Job
from benchmarks.cpu.models import DSM, words
from benchmarks.cpu.plans import Group
from dsm_ext_cli import integers

RESULT = RESULTS / "precision.json"
TINY = "deit_tiny_patch16_224"
NAMES = [f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")]
SECTIONS = ("speed", "large", "memory")
OURS = ("float32", "bfloat16", "int8")
# The precisions of each peer: dense ones, and the reference with DSM. DeiT-T runs beside all of
# them, the larger models beside those that come nearest to ours, unless --all-peers asks for more.
DENSE = {
    "dsm_ext": OURS,
    "timm eager": ("float32", "bfloat16"),
    "timm compiled": ("bfloat16",),
    "torchao": ("int8",),
    "onnxruntime": ("float32", "int8 dynamic", "int8 static"),
    "openvino": ("float32", "auto", "bfloat16", "int8", "int8, rest float32"),
}
MERGED = {"dsm_ext": OURS, "reference openvino": ("float32", "auto", "int8")}
NEAREST_DENSE = {
    "dsm_ext": OURS,
    "timm eager": ("float32", "bfloat16"),
    "openvino": ("bfloat16", "int8"),
}
NEAREST_MERGED = {"dsm_ext": OURS, "reference openvino": ("int8",)}
# Schedules that keep more answers, for the model whose answers are counted.
GUIDED = ("guided:1.4", "guided:1.7")
# Images with many tokens: the model, and for each side a schedule that merges a like share.
LARGE = "vit_small_patch14_dinov2"
LARGE_SCHEDULES = {518: "dsm:r=112", 1022: "dsm:r=435"}
MEMORY_MODEL, MEMORY_BATCH = NAMES[-1], 8


def speed(args: argparse.Namespace, common: dict[str, Any]) -> Iterator[Group]:
    for model in args.models:
        for batch in args.batches:
            at = {**common, "model": model, "batch": batch}
            pictured = model == TINY and args.data is not None
            if pictured:
                folder = args.data.resolve()
                at |= {"weights": str(folder), "pictures": str(folder / "imagenet_samples")}
            every = model == TINY or args.all_peers
            dense, merged = (DENSE, MERGED) if every else (NEAREST_DENSE, NEAREST_MERGED)
            jobs = [
                Job(peer, schedule=schedule, precision=precision, **at)
                for schedule, peers in (("dense", dense), (DSM, merged))
                for peer, precisions in peers.items()
                for precision in precisions
            ]
            if pictured:
                jobs += [
                    Job("dsm_ext", schedule=schedule, precision=p, **at)
                    for schedule in GUIDED
                    for p in OURS
                ]
            # The answers do not depend on the batch, so they are asked for in one group.
            asked = pictured and batch == max(args.batches)
            yield Group("speed", model, tuple(jobs), ("answers",) if asked else ())


def large(common: dict[str, Any]) -> Iterator[Group]:
    for size, schedule in LARGE_SCHEDULES.items():
        at = {**common, "model": LARGE, "img_size": size}
        jobs = [Job("timm eager", precision=p, **at) for p in DENSE["timm eager"]]
        for kind in ("dense", schedule):
            jobs += [Job("dsm_ext", schedule=kind, precision=p, **at) for p in OURS]
        yield Group("large", LARGE, tuple(jobs), ())


def memory(common: dict[str, Any]) -> Iterator[Group]:
    at = {**common, "model": MEMORY_MODEL, "batch": MEMORY_BATCH}
    jobs = [Job("timm eager", **at)]
    jobs += [Job("dsm_ext frozen", precision=p, **at) for p in OURS]
    jobs += [Job("openvino", precision=p, **at) for p in ("float32", "auto", "int8")]
    yield Group("memory", MEMORY_MODEL, tuple(jobs))


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    data = os.environ.get("DSM_EXT_DATA")
    add("--data", type=Path, default=Path(data) if data else None, help="else no answers")
    add("--models", type=words, default=NAMES)
    add("--batches", type=integers, default=[1, 8])
    add("--only", type=words, default=list(SECTIONS), help=f"sections of {','.join(SECTIONS)}")
    add("--all-peers", action="store_true", help="all of them beside the larger models, too")
    add("--rounds", type=int, default=5)
    add("--least", type=float, default=0.3, help="seconds of a turn")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--cache", type=Path, metavar="DIR", help="keeps exported and quantised models")
    add("--json", type=Path, metavar="F", default=RESULT)
    args = parser.parse_args(argv)
    if unknown := set(args.only) - set(SECTIONS):
        parser.error(f"expected --only of {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="dsm_ext_bench_") as folder:
        cache = str(args.cache.resolve() if args.cache else folder)
        common = {"threads": args.threads, "cache": cache}
        made = {"speed": speed(args, common), "large": large(common), "memory": memory(common)}
        groups = [group for name in args.only for group in made[name]]
        models.run(groups, args, {})


if __name__ == "__main__":
    main()
