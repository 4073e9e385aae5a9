"""Shared by the commands: making models, run settings, tables, checks of output files."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import torch

from dsm_ext.from_timm import create_timm
from dsm_ext_cli import integers, schedules

__all__ = [
    "any_model",
    "check_output_file",
    "check_output_folder",
    "check_output_picture",
    "given",
    "integers",
    "run_settings",
    "schedules",
    "table",
    "timm_model",
    "trained_model",
    "write_json",
]

# The arguments that go with a timm name. A folder or an exported file fixes all of these.
OF_NAMES = {
    "weights": "--weights", "pretrained": "--pretrained", "weights_prefix": "--weights-prefix",
    "no_ema": "--no-ema", "img_size": "--img-size", "num_classes": "--num-classes",
    "in_chans": "--in-chans", "global_pool": "--global-pool",
}  # fmt: skip
SHAPE = ("img_size", "num_classes", "in_chans", "global_pool")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def timm_model(
    name: str, weights: str | None = None, pretrained: bool = False, **options: Any
) -> Any:
    """Make timm's model in eval mode, with the given weights or random ones (seed 0).

    Args:
        options: further arguments of ``create_timm``.

    Raises:
        ValueError: timm has no such model, or the weights do not fit.
        NotImplementedError: dsm_ext does not support the model.
    """
    if weights and pretrained:
        raise ValueError("expected one of --weights FILE and --pretrained, got both")
    torch.manual_seed(0)
    return create_timm(name, weights, pretrained, **options)


def given(args: argparse.Namespace, name: str) -> bool:
    """Whether the user gave an argument. False if the command does not have it."""
    value = getattr(args, name, None)
    return value is not None and value is not False  # 0 counts as given: --num-classes 0


def any_model(args: argparse.Namespace) -> Any:
    """Make timm's model from a command's arguments. Without weights they are random.

    Raises:
        ValueError: an argument that belongs to a weight file is given without one.
    """
    if not given(args, "weights"):
        for name in ("weights_prefix", "no_ema"):
            if given(args, name):
                raise ValueError(f"{OF_NAMES[name]} goes with --weights FILE")
    options = {
        name: getattr(args, name) for name in (*SHAPE, "weights_prefix") if given(args, name)
    }
    if given(args, "no_ema"):
        options["use_ema"] = False
    weights, pretrained = getattr(args, "weights", None), getattr(args, "pretrained", False)
    return timm_model(args.model, weights, pretrained, **options)


def trained_model(args: argparse.Namespace) -> Any:
    """Make timm's model as ``any_model`` does, but refuse random weights.

    Raises:
        ValueError: the arguments do not say where the weights are.
    """
    if not (args.weights or args.pretrained):
        raise ValueError("expected --weights FILE or --pretrained")
    return any_model(args)


def run_settings(args: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """The device and dtype of a run. Also sets torch's number of threads.

    Raises:
        ValueError: the device is not present or not supported, or the number of threads is invalid.
    """
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"expected --threads to be positive, got {args.threads}")
        try:
            torch.set_num_threads(args.threads)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(
                f"expected --threads to be a number of threads, got {args.threads}"
            ) from error
    return _device(args.device), DTYPES[args.dtype]


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise ValueError(
            f"no such device: {text!r}; expected --device to be cpu, cuda or cuda:N"
        ) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise ValueError(
            f"dsm_ext does not run on the device {text!r}; expected --device to be cpu, cuda or "
            "cuda:N"
        )
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else f": torch {torch.__version__} is built without CUDA"
        raise ValueError(f"no CUDA device is present{built}; use --device cpu")
    count = torch.cuda.device_count()
    # Compare the text and not the device's index: torch keeps only 8 bits of a large index.
    index = int(text.partition(":")[2] or 0)
    if index >= count:
        last = f"cuda:{count - 1}"
        raise ValueError(f"no such device: {text!r}; the last of {count} is {last}")
    return device


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table. The first column is aligned to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def check_output_folder(path: Path, option: str) -> None:
    """Make a folder for the output and check that it can be written, before the work starts.

    Raises:
        ValueError: the folder cannot be made or written. The message names it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".dsm-ext.part"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise ValueError(f"expected {option} to be a folder, got the file {path}") from error
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written: {error.strerror}") from error


def check_output_file(path: Path | None, option: str) -> None:
    """Check that a file can be written and make its folder, before the work starts.

    Raises:
        ValueError: the file cannot be written. The message names it.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"expected {option} to be a file, got the folder {path}")
    if not path.exists() or path.is_file():  # pipes and devices need no folder and no probe
        if path.parent.is_file():
            raise ValueError(f"{option} {path} cannot be written: {path.parent} is a file")
        check_output_folder(path.parent, f"the folder of {option}:")


def check_output_picture(path: Path, option: str) -> None:
    """Check that Pillow can write a picture there, before the work starts.

    Raises:
        ValueError: the file cannot be written, or Pillow cannot write files with this ending.
    """
    from PIL import Image

    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"expected {option} to be a picture's name, such as x.png, got {path}")
    check_output_file(path, option)


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write a result as JSON. The file is replaced at once, so nobody reads a part of it.

    Args:
        path: None writes nothing.

    Raises:
        OSError: the file cannot be written. The message names it.
    """
    if path is None:
        return
    text = json.dumps(value, indent=2) + "\n"
    whole = not path.exists() or path.is_file()  # pipes and devices must not be replaced
    target = path.with_name(path.name + ".part") if whole else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if whole:
            target.replace(path)
    except OSError as error:
        if whole:
            with contextlib.suppress(OSError):
                target.unlink()
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
