"""Measures rotary models beside timm, beside a ViT without rotation, and without their rotation.

    python -m benchmarks.cpu.rotary [--models a,b] [--batches 1,4] [--rounds N] [--json F]

All calls of a model and a batch take turns in one process. Weights are random: they do not change
the speed, except that they decide which tokens merge. DINOv3's default in timm is average pooling
without a head, so that the last block computes all tokens for every peer. "no rotation" is the same
model with the rotation left out: the difference is what the rotation costs. The script takes about
15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks.common import RESULTS
from benchmarks.cpu.models import words
from dsm_ext._C import has_precision
from dsm_ext._native import Config
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.model import VisionTransformer
from dsm_ext.timing import rates_in_turn, summarize
from dsm_ext.timm_models.from_timm import from_timm
from dsm_ext_cli import integers

RESULT = RESULTS / "rotary.json"
MODELS = ["vit_small_patch16_dinov3", "vit_base_patch16_dinov3"]
SIDE = 256
DSM = "dsm"
PRECISIONS = ("float32", "bfloat16", "int8")


def without_rotation(model: Any, precision: str) -> VisionTransformer:
    """The compiled model, which computes no rotation."""
    config = Config(**from_timm(model, "dense").config.to_dict() | {"rope_type": ""})
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    plain = VisionTransformer(config, "dense", weights)
    plain.precision = precision
    return plain


def vit_with_registers(model: Any) -> Any:
    """timm's ViT of the same size with as many tokens, without rotation and positions."""
    config = from_timm(model, "dense").config
    return timm.models.VisionTransformer(
        img_size=config.img_size, embed_dim=config.embed_dim, depth=config.depth,
        num_heads=config.num_heads, reg_tokens=config.reg_tokens, init_values=1e-5,
        num_classes=0, global_pool="avg", fc_norm=False, pos_embed="none", qkv_bias=False,
    ).eval()  # fmt: skip


def measure(name: str, batch: int, rounds: int, least: float) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=SIDE).eval()
    plain = vit_with_registers(model)
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[..., Any]] = {}

    def add(peer: str, precision: str, schedule: str, call: Callable[..., Any]) -> None:
        key = f"{peer}, {precision}, {schedule}"
        rows[key] = {"peer": peer, "precision": precision, "schedule": schedule}
        calls[key] = call

    add("timm eager", "float32", "dense", model)
    add("timm eager, ViT with registers", "float32", "dense", plain)
    for precision in (p for p in PRECISIONS if has_precision(p)):
        registers = from_timm(plain, "dense", precision=precision)
        add("dsm_ext, ViT with registers", precision, "dense", registers)
        for schedule in ("dense", DSM):
            if schedule == DSM:  # beside the dense call in every round
                unrotated = without_rotation(model, precision)
                add("dsm_ext, no rotation", precision, "dense", unrotated)
            fast = from_timm(model, schedule, precision=precision)
            add("dsm_ext", precision, schedule, fast)
            rows[f"dsm_ext, {precision}, {schedule}"] |= {
                "gmacs": fast.plan.multiply_adds / 1e9,
                "tokens": [fast.plan.tokens_dense, fast.plan.tokens_out],
            }
    images = torch.randn(batch, 3, SIDE, SIDE)
    with torch.inference_mode():
        rates = rates_in_turn(
            {key: partial(call, images) for key, call in calls.items()}, batch, rounds, least
        )
    for key, rate in rates.items():
        rows[key] |= {"rate": summarize(rate), "rates": rate}
        print(f"    {key:50} {rows[key]['rate']['median']:.2f} images/s", flush=True)
    return list(rows.values())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=words, default=MODELS)
    parser.add_argument("--batches", type=integers, default=[1, 4])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--least", type=float, default=0.2, help="seconds of a turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="F", default=RESULT)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    place = environment()
    place["machine"]["threads"] = args.threads
    result: dict[str, Any] = {**place, "img_size": SIDE, "rounds": args.rounds, "groups": []}
    for name in args.models:
        for batch in args.batches:
            print(f"{name}, batch {batch}", flush=True)
            rows = measure(name, batch, args.rounds, args.least)
            result["groups"].append({"model": name, "batch": batch, "rows": rows})
            write_json(args.json, result)


if __name__ == "__main__":
    main()
