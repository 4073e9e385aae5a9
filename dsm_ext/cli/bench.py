"""``dsm-ext bench``: images per second beside timm and the PyTorch reference, taken in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dsm_ext import reference
from dsm_ext._native import Schedule
from dsm_ext.cli import common, profile
from dsm_ext.from_timm import from_timm
from dsm_ext.measure import environment, synchronized, time_in_turn
from dsm_ext.model import VisionTransformer

PEERS = ("timm", "reference")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="images per second beside peers",
        description=__doc__,
        epilog="timm runs eagerly and dense; reference merges in plain PyTorch, same schedule.",
    )
    common.add_model(parser)
    parser.add_argument(
        "--batch", type=common.integers, default=[1, 8], help="such as 1,8, the default"
    )
    parser.add_argument(
        "--schedule",
        type=common.schedules,
        default=["dense", "dsm"],
        help='one or several, such as "dense dsm:r=16"; default: dense dsm',
    )
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="any of timm,reference; default: both"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="instead, where the time of our forward goes, by block and stage",
    )
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    common.add_run(parser)
    common.add_json(parser)
    parser.set_defaults(run=run)


def calls_for(
    timm_model: Any, schedules: list[str], peers: list[str], images: Tensor
) -> dict[str, Callable[[], Any]]:
    """One call for each schedule of ours and of each peer, by "peer schedule"."""
    device = images.device
    calls: dict[str, Callable[[], Any]] = {}

    def ours(schedule: str) -> Callable[[], Any]:
        model = from_timm(timm_model, schedule)  # shares the weights
        return lambda: model(images)

    def referenced(schedule: str) -> Callable[[], Any]:
        parsed = Schedule.parse(schedule, len(timm_model.blocks))

        def call() -> None:
            with torch.inference_mode():
                reference.forward(timm_model, images, parsed)

        return call

    def timm_eager() -> None:
        with torch.inference_mode():
            timm_model(images)

    if "timm" in peers:
        calls["timm dense"] = synchronized(timm_eager, device)
    for schedule in schedules:
        calls[f"dsm_ext {schedule}"] = synchronized(ours(schedule), device)
        if "reference" in peers:
            calls[f"reference {schedule}"] = synchronized(referenced(schedule), device)
    return calls


def _profile(
    args: argparse.Namespace, model: VisionTransformer, images: Tensor
) -> list[dict[str, Any]]:
    results = []
    for schedule in args.schedule:
        model.schedule = schedule
        measured = profile.measure(model, images, args.rounds)
        print(f"{args.model}, batch {len(images)}, {schedule}: milliseconds")
        print(profile.table(measured), end="\n\n")
        share = profile.merging_share(measured)
        entry = {"batch": len(images), "schedule": schedule, "merging_share": share}
        results.append(entry | {"profile": measured})
    return results


def run(args: argparse.Namespace) -> None:
    device, dtype = common.run_settings(args)
    peers = [p for p in args.peers.split(",") if p]
    for peer in peers:
        if peer not in PEERS:
            raise ValueError(f"expected --peers to be any of {', '.join(PEERS)}, got {peer!r}")
    if args.rounds < 1:
        raise ValueError(f"expected --rounds to be positive, got {args.rounds}")
    timm_model = common.timm_model(args.model, args.weights, args.pretrained).to(device, dtype)
    model = from_timm(timm_model, "dense")
    results = []
    for batch in args.batch:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, model.config.in_chans, *model.config.img_size)
        images = torch.randn(shape, generator=generator).to(device, dtype)
        if args.profile:
            results += _profile(args, model, images)
            continue
        calls = calls_for(timm_model, args.schedule, peers, images)
        rates = time_in_turn(calls, batch, args.rounds)
        base = rates.get("timm dense")
        rows = []
        for name, rate in rates.items():
            peer, schedule = name.split(" ", 1)
            model.schedule = schedule
            gmacs = model.plan.multiply_adds / 1e9
            ratio = rate["median"] / base["median"] if base else None
            results.append(
                {
                    "batch": batch,
                    "peer": peer,
                    "schedule": schedule,
                    "gmacs": gmacs,
                    "images_per_second": rate,
                    "ratio_to_timm": ratio,
                }
            )
            rows.append(
                [
                    name,
                    f"{gmacs:.3f}",
                    f"{rate['median']:.1f}",
                    f"{rate['q1']:.1f} to {rate['q3']:.1f}",
                    f"{ratio:.2f}" if ratio else "",
                ]
            )
        print(f"{args.model}, batch {batch}, {args.dtype}, {torch.get_num_threads()} threads")
        head = ["", "GMACs", "images/s", "quartiles", "to timm"]
        print(common.table(head, rows), end="\n\n")
    common.write_json(
        args.json,
        {"model": args.model, "dtype": args.dtype, "results": results, **environment()},
    )
