"""Finding the Vision Transformers in the tensors of a checkpoint, by their tensors' names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

# torch.compile, data parallelism and activation checkpointing add these to names. No layer is
# called so.
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_PATCHES = "patch_embed.proj.weight"
# The patch embeddings of other projects' Vision Transformers, whose names timm converts.
_FOREIGN_PATCHES = (
    "preprocessor.patchifier.proj.weight",
    "radio_model.model.patch_generator.embedder.weight",
    "beit3.vision_embed.proj.weight",
)


class Place(NamedTuple):
    """Where a Vision Transformer is in a checkpoint."""

    path: str  # of the dict with its tensors
    root: str  # the prefix of the tensors' names in this dict
    kind: str  # timm, tower (timm's model inside OpenCLIP's), clip, or foreign

    @property
    def prefix(self) -> str:
        return self.path + self.root


def find_places(dicts: Mapping[str, Mapping[str, Tensor]]) -> list[Place]:
    """All Vision Transformers in dicts of tensors, which are keyed by their paths."""
    return [place for path, names in dicts.items() for place in _places_in(path, names)]


def _places_in(path: str, names: Mapping[str, Tensor]) -> Iterator[Place]:
    clean = {WRAPPERS.sub("", name) for name in names}
    for name in names:
        for end, kind in ((_PATCHES, "timm"), ("conv1.weight", "clip")):
            root = _before(name, end)
            if root is None:
                continue
            short = WRAPPERS.sub("", root)
            if kind == "clip" and f"{short}class_embedding" not in clean:
                continue  # a convolution of another model
            if kind == "timm" and short.endswith("visual.trunk."):
                kind = "tower"
            yield Place(path, root, kind)
        for end in _FOREIGN_PATCHES:
            root = _before(name, end)
            if root is not None:
                yield Place(path, root, "foreign")


def _before(name: str, end: str) -> str | None:
    """The part of a name before ``end``. None if the name, without wrappers, ends otherwise."""
    short = WRAPPERS.sub("", name)
    if short != end and not short.endswith("." + end):
        return None
    first = end.partition(".")[0] + "."
    return name[: ("." + name).rindex("." + first)]


def with_prefix(places: list[Place], prefix: str, path: str) -> list[Place]:
    """The places with exactly this prefix, else those whose prefix begins with it.

    Prefixes count from the checkpoint's root or from the dict that timm takes.
    """
    wanted = WRAPPERS.sub("", dotted(prefix))

    def prefixes(place: Place) -> set[str]:
        whole = place.prefix
        forms = {whole, whole.removeprefix(path)}
        return forms | {WRAPPERS.sub("", form) for form in forms}

    raw = [place for place in places if dotted(prefix) in prefixes(place)]
    exact = raw or [place for place in places if wanted in prefixes(place)]
    if exact or not prefix:
        return exact
    return [p for p in places if any(form.startswith(wanted) for form in prefixes(p))]


def dotted(prefix: str) -> str:
    """A prefix with a dot at its end."""
    return prefix if not prefix or prefix.endswith(".") else prefix + "."
