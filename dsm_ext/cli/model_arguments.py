"""The arguments that name a model: whether MODEL is a timm name or a path, and timm's model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from dsm_ext.model.load import WEIGHTS
from dsm_ext.timm_models.from_timm import create_timm
from dsm_ext.timm_models.names import path_named

# The arguments that go with a timm name. A folder or an exported file fixes all of these.
OF_NAMES = {
    "weights": "--weights", "pretrained": "--pretrained", "weights_prefix": "--weights-prefix",
    "no_ema": "--no-ema", "img_size": "--img-size", "num_classes": "--num-classes",
    "in_chans": "--in-chans", "global_pool": "--global-pool",
}  # fmt: skip
SHAPE = ("img_size", "num_classes", "in_chans", "global_pool")


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


def path_of(args: argparse.Namespace) -> Path | None:
    """The folder or file that MODEL names. None if MODEL is a timm name.

    Raises:
        FileNotFoundError: MODEL looks like a path, but nothing is there.
        ValueError: the file is not a safetensors file; or an argument for a timm name is given too.
    """
    path = path_named(args.model)
    if path is None:
        return None
    options = [option for name, option in OF_NAMES.items() if given(args, name)]
    if options:
        raise ValueError(
            f"{args.model} is a {'folder' if path.is_dir() else 'file'} with its own weights and "
            f"shape: drop {', '.join(options)}, which go with a timm name"
        )
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(
            f"expected a timm name, a folder, or the {WEIGHTS} of `dsm-ext export`, got the file "
            f"{args.model}; the weights of a timm model are given as --weights"
        )
    return path
