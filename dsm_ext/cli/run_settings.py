"""The device, dtype and threads of a command's run."""

from __future__ import annotations

import argparse

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
