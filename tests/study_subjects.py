"""A tiny model with random pictures, as the parts of the study get it."""

from pathlib import Path

import torch
from models import images_for

import dsm_ext
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study


class TinySubject:
    """Stands for ``benchmarks.study.common.subject.Subject``."""

    name = "tiny"

    def __init__(self, source, pictures):
        self.source = source
        source.head.weight.data.normal_()  # timm's start is so small that all answers are the same
        self.model = dsm_ext.from_timm(source, "dense")
        mean, std = self.normalisation()
        levels = torch.rand(images_for(source, pictures).shape)
        self.images = ((levels * 255).round() / 255 - mean) / std
        self.paths = [f"{i}.png" for i in range(pictures)]
        self.labels = torch.arange(pictures) % self.model.num_classes

    def normalisation(self):
        config = self.source.pretrained_cfg
        return tuple(torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))


def study_of(source, pictures):
    """What a part measures with; its values are kept in memory alone."""
    return Study(TinySubject(source, pictures), Kept(None, {}), Path("unused"))
