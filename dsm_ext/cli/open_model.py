"""Opening the model that a command's arguments name: weights, preprocessing, classes, schedule."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext._native import Config, ModelInfo, Schedule
from dsm_ext.cli import model_arguments
from dsm_ext.model import VisionTransformer
from dsm_ext.model.class_names import class_names, label_names
from dsm_ext.model.load import load, model_info
from dsm_ext.timm_models.from_timm import from_timm
from dsm_ext.timm_models.names import is_timm

_MODES = {1: "L", 3: "RGB"}  # Pillow's mode for a model's number of channels


@dataclass
class Opened:
    """A model that a command opened, and what is known about it."""

    name: str
    model: VisionTransformer
    schedules: dict[str, Schedule | str]
    """The schedules that the user asked for, by the user's names for them; or the model's own."""
    precisions: list[str]
    """The precisions that the user asked for, or the model's own. "auto" is resolved already."""
    info: ModelInfo | None = None
    """Of a folder or an exported file. None for a timm name."""
    path: Path | None = None
    _timm: Any = field(default=None, repr=False)

    def check_classifier(self) -> None:
        """Refuse a model without classes by a ValueError."""
        if self.model.config.num_classes == 0:
            raise ValueError(f"{self.name} has no classifier: it gives features")

    def label_names(self) -> list[str] | None:
        """The checkpoint's own names for the classes, such as WordNet ids. None if unknown."""
        return label_names(self.model._pretrained_cfg, self.model.config.num_classes)

    def class_names(self) -> list[str] | None:
        """The readable names of the classes in their order. None if they are unknown."""
        return class_names(self.model._pretrained_cfg, self.model.config.num_classes)

    def transform(self) -> Callable[[Any], Tensor]:
        """Make the function from a PIL image to the model's input [in_chans, height, width].

        Raises:
            ValueError: the model takes neither 1 nor 3 channels, or nothing says how to prepare its
                pictures.
        """
        if self.info is None:
            from dsm_ext.images import transform_for

            return transform_for(self.model)
        channels, preprocessing = self.model.config.in_chans, self.info.preprocessing
        if channels not in _MODES:
            raise ValueError(f"{self.name} takes {channels} channels, pictures have 1 or 3")
        if not preprocessing.known:
            raise ValueError(
                f"{self.name} does not say how pictures are prepared for it: its config.json has "
                "no pretrained_cfg with mean and std"
            )

        def by_info(image: Any) -> Tensor:
            import numpy as np

            from dsm_ext.images import to_rgb

            pixels = np.array(to_rgb(image).convert(_MODES[channels]))
            return preprocessing(torch.from_numpy(pixels).view(*pixels.shape[:2], -1))

        return by_info

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of the preprocessing, each [in_chans, 1, 1]."""
        cfg = self.model.pretrained_cfg
        mean, std = (
            torch.tensor(cfg[name], dtype=torch.float32)[:, None, None] for name in ("mean", "std")
        )
        return mean, std

    def timm_model(self) -> Any:
        """timm's model with the same weights, which both models share.

        Raises:
            ValueError: the folder names no architecture of timm's, or one of another shape.
        """
        if self._timm is None:
            assert self.path is not None and self.info is not None
            self._timm = _timm_of(self.path, self.info, self.model)
        return self._timm


def open_model(
    args: argparse.Namespace,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    random: bool = False,
) -> Opened:
    """Open the model that the arguments of a command name.

    Args:
        dtype: None keeps the file's.
        device: None is the CPU.
        random: allow random weights for a timm name without weights.

    Raises:
        ValueError: an argument for a timm name is given with a folder; a timm name has no weights;
            the model cannot run in a precision; or as ``from_timm`` and ``load``.
        FileNotFoundError: the folder or file does not exist.
    """
    wanted = [args.schedule] if isinstance(args.schedule, str) else args.schedule
    path = model_arguments.path_of(args)
    if path is not None:
        model = load(path, None, dtype=dtype, device=device or "cpu")
        info = model_info(path)
        schedules = _schedules(wanted, info.schedule)
        opened = Opened(args.model, model, schedules, _precisions(args, model), info, path)
    else:
        source = model_arguments.any_model(args) if random else model_arguments.trained_model(args)
        source = source.to(device=device, dtype=dtype)
        model = from_timm(source, "dense")
        schedules = _schedules(wanted, None)
        opened = Opened(args.model, model, schedules, _precisions(args, model), _timm=source)
    for schedule in reversed(opened.schedules.values()):
        model.schedule = schedule  # refuse bad ones before any work. The first one stays set.
    return opened


def open_config(args: argparse.Namespace) -> tuple[Config, dict[str, Schedule | str]]:
    """The config and the schedules of the model that the arguments name, without its weights.

    Raises:
        ValueError, FileNotFoundError, NotImplementedError: as for ``open_model``.
    """
    from dsm_ext.timm_models.config import config_of

    wanted = [args.schedule] if isinstance(args.schedule, str) else args.schedule
    path = model_arguments.path_of(args)
    if path is not None:
        info = model_info(path)
        return info.config, _schedules(wanted, info.schedule)
    with torch.device("meta"):
        source = model_arguments.any_model(args)
    return config_of(source), _schedules(wanted, None)


def _precisions(args: argparse.Namespace, model: VisionTransformer) -> list[str]:
    """The precisions that a command's arguments name. The model is left in the first of them."""
    wanted = getattr(args, "precision", None)
    if wanted is None:
        return [model.precision]
    found: list[str] = []
    for precision in [wanted] if isinstance(wanted, str) else wanted:
        model.precision = precision  # refuse bad ones before any work
        if model.precision not in found:  # "auto" stands for one that may be named too
            found.append(model.precision)
    model.precision = found[0]
    return found


def _schedules(wanted: list[str] | None, own: Schedule | None) -> dict[str, Schedule | str]:
    """Schedules by the user's names. The model's own is called "dsm", "dense" or "exported"."""
    if wanted is not None:
        return {name: name for name in wanted}
    if own is None:
        return {"dsm": "dsm"}
    for name in ("dsm", "dense"):
        if own == Schedule.parse(name, own.depth):
            return {name: own}
    return {"exported": own}


def _timm_of(path: Path, info: ModelInfo, model: VisionTransformer) -> Any:
    """Make timm's model of the architecture that a folder names, with a model's weights."""
    import timm

    from dsm_ext.timm_models.config import config_of
    from dsm_ext.timm_models.support import check_supported

    content = json.loads(info.config_json)
    architecture = content.get("architecture")
    if not isinstance(architecture, str) or not is_timm(architecture):
        raise ValueError(
            f"{path} names no architecture of timm {timm.__version__}, got "
            f"{'none' if architecture is None else repr(architecture)}: timm's model cannot be made"
        )
    config = model.config
    arguments = dict(content.get("model_args") or {})
    arguments |= {name: getattr(config, name) for name in model_arguments.SHAPE}
    if config.dynamic_img_size:
        arguments["dynamic_img_size"] = True
    try:
        with torch.device("meta"):
            source: Any = timm.create_model(architecture, **arguments).eval()
    except Exception as error:  # timm passes the arguments to code that raises many types
        raise ValueError(f"timm cannot make {architecture} as {path} says: {error}") from error
    check_supported(source)
    own, other = config.to_dict(), config_of(source).to_dict()
    differing = [name for name in own if own[name] != other[name]]
    if differing:
        said = ", ".join(f"{name} {own[name]!r} and {other[name]!r}" for name in differing)
        raise ValueError(f"{path} and timm's {architecture} differ in {said}")
    source.load_state_dict(dict(model.named_parameters()), assign=True)
    source.pretrained_cfg = dict(model._pretrained_cfg or {}) | {"architecture": architecture}
    return source
