"""The networks whose limits are measured: the caller's, and the demo's for digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.study.common.subject import Subject
from dsm_ext import VisionTransformer, digits, from_timm


@dataclass
class Network:
    """A model, its pictures, and what is known of them.

    source: timm's module with the same weights, of which gradients are taken.
    images: [n, channels, height, width], prepared for the model.
    labels: [n] classes, or None if they are unknown.
    """

    name: str
    model: VisionTransformer
    source: Any
    images: Tensor
    labels: Tensor | None

    @property
    def merged_block(self) -> int:
        """The block after which groups are looked at: the last one reads these tokens."""
        return self.model.config.depth - 2


def of_subject(subject: Subject) -> Network:
    """The caller's model and pictures."""
    return Network(subject.name, subject.model, subject.source, subject.images, subject.labels)


def of_digits(count: int | None = None) -> Network:
    """The demo's model and the held-out digits, or the first ``count`` of them.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    source = digits.create_model()
    images, labels = digits.load_digits("test")
    return Network("digits", from_timm(source, "dense"), source, images[:count], labels[:count])
