"""``dsm-ext bench``: images per second, compared with timm and the PyTorch reference."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dsm_ext import reference
from dsm_ext._native import Schedule
from dsm_ext.cli import profile
from dsm_ext.cli.open_model import Opened, open_model
from dsm_ext.cli.output import check_output_file, table, write_json
from dsm_ext.cli.run_settings import run_settings
from dsm_ext.environment import environment
from dsm_ext.model import VisionTransformer
from dsm_ext.timing import synchronized, time_in_turn
from dsm_ext.timm_models.from_timm import from_timm

PEERS = ("timm", "reference")


def calls_for(
    model: Any,
    schedules: Sequence[str] | Mapping[str, Schedule | str],
    peers: Sequence[str],
    images: Tensor,
    precisions: Sequence[str] = ("float32",),
) -> dict[str, Callable[[], Any]]:
    """Make the calls to compare, by "peer schedule precision". All use the same images and weights.

    Args:
        model: timm's model, or without peers one of ours.
        schedules: strings for ``Schedule.parse``, or a dict from names to schedules.
        peers: any of "timm" (dense only) and "reference" (each schedule).
        images: [B, channels, height, width].
        precisions: of our model. The peers run once, in the dtype of the images.
    """
    device, dtype = images.device, str(images.dtype).removeprefix("torch.")
    calls: dict[str, Callable[[], Any]] = {}
    named = schedules if isinstance(schedules, Mapping) else {name: name for name in schedules}
    base = model if isinstance(model, VisionTransformer) else from_timm(model, "dense")
    weights = dict(base.named_parameters())

    def ours(schedule: Schedule | str, precision: str) -> Callable[[], Any]:
        one = VisionTransformer(base.config, schedule, weights)
        if one.precision != precision:
            one.precision = precision
        return lambda: one(images)

    def referenced(schedule: Schedule | str) -> Callable[[], Any]:
        if isinstance(schedule, str):
            schedule = Schedule.parse(schedule, base.config)

        def call() -> None:
            with torch.inference_mode():
                reference.forward(model, images, schedule)

        return call

    def timm_eager() -> None:
        with torch.inference_mode():
            model(images)

    if "timm" in peers:
        calls[f"timm dense {dtype}"] = synchronized(timm_eager, device)
    for name, schedule in named.items():
        for precision in precisions:
            calls[f"dsm_ext {name} {precision}"] = synchronized(ours(schedule, precision), device)
        if "reference" in peers:
            calls[f"reference {name} {dtype}"] = synchronized(referenced(schedule), device)
    return calls


def _profile(args: argparse.Namespace, opened: Opened, images: Tensor) -> list[dict[str, Any]]:
    results = []
    model = opened.model
    for precision in opened.precisions:
        if model.precision != precision:
            model.precision = precision
        for name, schedule in opened.schedules.items():
            model.schedule = schedule
            measured = profile.measure(model, images, args.rounds)
            print(f"{args.model}, batch {len(images)}, {name}, {precision}: milliseconds")
            print(profile.table(measured), end="\n\n")
            entry: dict[str, Any] = {"batch": len(images), "schedule": name, "precision": precision}
            entry["merging_share"] = profile.merging_share(measured)
            results.append(entry | {"profile": measured})
    return results


def _peers(text: str | None) -> list[str]:
    peers = list(PEERS) if text is None else [p.strip() for p in text.split(",") if p.strip()]
    for peer in peers:
        if peer not in PEERS:
            raise ValueError(f"expected --peers to be any of {', '.join(PEERS)}, got {peer!r}")
    return peers


def _compared(opened: Opened, peers: list[str], asked: bool) -> tuple[Any, list[str]]:
    """The model to time and its peers.

    Without peers this is our own model. A folder may not tell which timm model it is. Then there
    are no peers either, unless the user asked for them.

    Raises:
        ValueError: the user asked for peers, but the timm model cannot be made.
    """
    if not peers:
        return opened.model, []
    try:
        return opened.timm_model(), peers
    except (ValueError, NotImplementedError) as error:
        if asked:
            raise ValueError(
                f"--peers {','.join(peers)} needs timm's model, but {error}"
            ) from error
        print(f"without peers: {error}")
        return opened.model, []


def run(args: argparse.Namespace) -> None:
    device, dtype = run_settings(args)
    peers = _peers(args.peers)
    if args.rounds < 1:
        raise ValueError(f"expected --rounds to be positive, got {args.rounds}")
    check_output_file(args.json, "--json")
    opened = open_model(args, dtype, device, random=True)
    if args.schedule is None:
        opened.schedules = {"dense": "dense", **opened.schedules}
    model = opened.model
    timed: Any = model
    if not args.profile:
        timed, peers = _compared(opened, peers, args.peers is not None)
    results = []
    for batch in args.batch:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, model.config.in_chans, *model.config.img_size)
        images = torch.randn(shape, generator=generator).to(device, dtype)
        if args.profile:
            results += _profile(args, opened, images)
            continue
        calls = calls_for(timed, opened.schedules, peers, images, opened.precisions)
        rates = time_in_turn(calls, batch, args.rounds)
        base = rates.get(f"timm dense {args.dtype}")
        rows = []
        for name, rate in rates.items():
            peer, schedule, precision = name.split(" ")
            model.schedule = opened.schedules.get(schedule, schedule)
            gmacs = model.plan.multiply_adds / 1e9
            ratio = rate["median"] / base["median"] if base else None
            results.append(
                {
                    "batch": batch,
                    "peer": peer,
                    "schedule": schedule,
                    "precision": precision,
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
        print(f"{args.model}, batch {batch}, {torch.get_num_threads()} threads")
        head = ["", "GMACs", "images/s", "quartiles", "to timm"]
        print(table(head, rows), end="\n\n")
    write_json(
        args.json,
        {"model": args.model, "dtype": args.dtype, "results": results, **environment()},
    )
