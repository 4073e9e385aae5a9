"""The model that is studied, and its pictures."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext import VisionTransformer
from dsm_ext.cli.open_model import Opened, open_model
from dsm_ext.images import Batches, find_images, label_images
from dsm_ext.tuning.state import fingerprint

NAME = "deit_tiny_patch16_224"


@dataclass
class Subject:
    """A model and its pictures, all on the CPU in float32.

    images: [n, channels, height, width], prepared for the model.
    paths: the pictures' files, in the same order.
    labels: [n] classes, or None if the files do not say them.
    """

    name: str
    opened: Opened
    images: Tensor
    paths: list[str]
    labels: Tensor | None

    @property
    def model(self) -> VisionTransformer:
        return self.opened.model

    @property
    def source(self) -> Any:
        """timm's module with the same weights."""
        return self.opened.timm_model()

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of the preprocessing, each [channels, 1, 1]."""
        return self.opened.normalisation()

    def fingerprint(self) -> dict[str, Any]:
        """What tells these weights and pictures from others."""
        return fingerprint(self.model, self.images)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a model and its pictures."""
    parser.add_argument("--model", default=NAME, help="a timm name or a folder; default: DeiT-T")
    parser.add_argument("--weights", metavar="F", help="of a timm name")
    parser.add_argument("--pretrained", action="store_true", help="the weights that timm downloads")
    parser.add_argument("--images", metavar="DIR", help="a folder with pictures")
    parser.add_argument("--pictures", type=int, metavar="N", help="use N of them, evenly spread")


def open_subject(args: argparse.Namespace) -> Subject | None:
    """The model and the pictures that the arguments name.

    Without --images they come from the folder that DSM_EXT_DATA names, with DeiT-T's weights and
    ``imagenet_samples``. None if there is neither.
    """
    data = os.environ.get("DSM_EXT_DATA")
    if args.images is None:
        if not data or args.model != NAME:
            return None
        args.images = str(Path(data) / "imagenet_samples")
        args.weights = args.weights or str(Path(data) / f"{NAME}.safetensors")
    args.schedule = "dense"
    opened = open_model(args)
    opened.check_classifier()
    paths = find_images(args.images)
    if args.pictures is not None:
        count = min(args.pictures, len(paths))
        paths = [paths[i * len(paths) // count] for i in range(count)]
    images, kept = [], []
    for batch, positions in Batches(paths, opened.transform(), 32):
        images.append(batch)
        kept += [paths[i] for i in positions]
    if not images:
        raise ValueError(f"none of the {len(paths)} pictures in {args.images} could be read")
    return Subject(args.model, opened, torch.cat(images), kept, _labels(opened, kept, args.images))


def _labels(opened: Opened, paths: list[str], folder: str) -> Tensor | None:
    classes = opened.model.config.num_classes
    try:
        found = label_images(paths, folder, classes, opened.label_names(), opened.class_names())
    except ValueError:
        return None  # pictures without labels serve all parts but the accuracies
    return torch.tensor(found)
