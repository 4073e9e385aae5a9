"""Small models with random pictures, for the tests of the study's parts."""

import torch
from models import images_for, prepared

import dsm_ext
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study
from benchmarks.study.common.subject import Subject
from dsm_ext.cli.open_model import Opened


def subject_of(source, count):
    """A subject of timm's module with ``count`` random pictures."""
    model = dsm_ext.from_timm(source, "dense")
    opened = Opened("tiny", model, {}, ["float32"], _timm=source)
    images = images_for(source, count)
    labels = torch.arange(count) % model.config.num_classes
    return Subject("tiny", opened, images, [f"{i}.png" for i in range(count)], labels)


def study_of(folder, count=6, source=None, **arguments):
    """What a part's ``measure`` takes: a small model, and a state in ``folder``."""
    if source is None:
        source = prepared(**arguments)
        source.head.weight.data.normal_()  # timm's start is so small that no KL differs from 0
    subject = subject_of(source, count)
    return Study(subject, Kept(folder / "state.json", {}), folder / "state")
