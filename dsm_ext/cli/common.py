"""What the commands share: arguments, models, tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from dsm_ext.from_timm import create_timm
from dsm_ext.model import VisionTransformer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def schedules(text: str) -> list[str]:
    """Schedules separated by spaces or semicolons (commas separate a schedule's arguments)."""
    names = text.replace(";", " ").split()
    if not names:
        raise argparse.ArgumentTypeError("expected a schedule, got none")
    return names


def integers(text: str) -> list[int]:
    """Positive integers separated by commas."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"expected positive integers, got {text}")
    return values


def add_model(
    parser: argparse.ArgumentParser, weights: bool = True, or_folder: bool = False
) -> None:
    also = ", or a folder that `export` wrote" if or_folder else ""
    parser.add_argument(
        "model", metavar="MODEL", help=f"a timm name, such as deit_small_patch16_224{also}"
    )
    if weights:
        parser.add_argument("--weights", metavar="F", help=".safetensors, .pt or .pth file")
        parser.add_argument(
            "--pretrained", action="store_true", help="the weights that timm downloads"
        )


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own choice")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", type=Path, help="write the result there as well")


def timm_model(name: str, weights: str | None = None, pretrained: bool = False) -> Any:
    """timm's model, in eval mode, with the weights asked for, else random ones (seed 0).

    Raises:
        ValueError: timm has no such model, or the weights do not fit.
        NotImplementedError: dsm_ext does not support it.
    """
    if weights and pretrained:
        raise ValueError("expected one of --weights FILE and --pretrained, got both")
    torch.manual_seed(0)
    return create_timm(name, weights, pretrained)


def trained_model(args: argparse.Namespace) -> Any:
    """timm's model for the arguments of ``add_model``, which must say where its weights are."""
    if not (args.weights or args.pretrained):
        raise ValueError("expected --weights FILE or --pretrained")
    return timm_model(args.model, args.weights, args.pretrained)


def trained_classifier(args: argparse.Namespace) -> Any:
    """``trained_model``, which must have classes.

    Raises:
        ValueError: it has none.
    """
    model = trained_model(args)
    if model.num_classes == 0:
        raise ValueError(f"{args.model} has no classifier: it gives features")
    return model


def run_settings(args: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of ``add_run``; sets the threads.

    Raises:
        ValueError: no such device here, or no thread at all.
    """
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"expected --threads to be positive, got {args.threads}")
        torch.set_num_threads(args.threads)
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise ValueError(f"no such device: {args.device!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is present; use --device cpu")
    return device, DTYPES[args.dtype]


def classes(model: VisionTransformer) -> list[str]:
    """Names of a model's classes: ImageNet-1k's where there are 1000, else numbers."""
    count = model.config.num_classes
    if count != 1000:
        return [str(i) for i in range(count)]
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(i) for i in range(count)]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as they need be, the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")  # nobody reads half of it
        beside.write_text(json.dumps(value, indent=2) + "\n")
        beside.replace(path)
