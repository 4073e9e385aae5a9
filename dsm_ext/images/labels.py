"""The classes of pictures, from the names of files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm_ext_reader.folders import natural_order, report

WORDNET_ID = re.compile(r"(?<![A-Za-z0-9])n[0-9]{8}(?![0-9])")
NUMBER = re.compile(r"-?[0-9]+")


def label_images(
    paths: Sequence[Path],
    folder: str | Path,
    num_classes: int,
    label_names: Sequence[str] | Mapping[Any, str] | None = None,
    descriptions: Sequence[str] | None = None,
) -> list[int]:
    """Find the class of each picture, by the first of these rules that applies:

    - The name of the file, or of a folder above it, contains a WordNet id (n01440764), and the
      model's classes are WordNet ids. They are those in ``label_names``, else ImageNet's in timm's
      order for this number of classes, such as 1000.
    - The folders of the pictures have the names in ``label_names`` or ``descriptions``, or the
      first name of a description ("tench" of "tench, Tinca tinca").
    - The names of all these folders are numbers. They are the classes, counted from 0, with or
      without leading zeros. Some may be missing.
    - Otherwise these folders are the classes, in timm's order of their names: a2 before a10.

    Folders of one name are one class. This, and having fewer folders than classes, is reported on
    stderr.

    Args:
        paths: pictures below ``folder``.
        num_classes: the number of the model's classes.
        label_names: the model's own name for each class, as ``label_names`` in timm's
            ``pretrained_cfg``: a list, or a dict by index. If there are not ``num_classes`` of
            them, they are ignored and a message on stderr says so. A name of two classes is
            ignored.
        descriptions: a readable name for each class.

    Raises:
        ValueError: a picture has no label (the first one is named); there are more folders than
            classes; a number is not a class; or a number and a WordNet id contradict each other.
    """
    own, wordnet = _class_names(num_classes, label_names, descriptions)
    parts = [_below(path, folder) for path in paths]
    places = {p[:-1] for p in parts if len(p) > 1}
    leaves = {place[-1] for place in places}  # timm's classes: the innermost folders' names
    numbers = bool(leaves) and all(NUMBER.fullmatch(leaf) for leaf in leaves)
    labels = [
        _wordnet_class(path, names, wordnet) for path, names in zip(paths, parts, strict=True)
    ]
    others = [i for i, label in enumerate(labels) if label is None]
    for i in others:
        if len(parts[i]) == 1:
            raise ValueError(
                f"dsm_ext: no label for {paths[i]}: expected a WordNet id in its name, or a folder "
                "for each class"
            )
    if others:
        classes = _folder_classes(leaves, folder, num_classes, own, numbers)
        by_order = not numbers and not leaves <= own.keys()
        if by_order and len(others) < len(paths):
            raise ValueError(
                f"dsm_ext: no label for {paths[others[0]]}: other pictures have WordNet ids, "
                "expected all to have one"
            )
        for i in others:
            labels[i] = classes[parts[i][-2]]
        if by_order and own:
            report(
                f"no folder in {folder} has the name of a class: the folders are used as classes "
                "0, 1, 2, ... in the order of their names"
            )
        _say_doubts(places, {parts[i][-2] for i in others}, folder, num_classes)
    for path, names, label in zip(paths, parts, labels, strict=True):
        if numbers and len(names) > 1 and names[-2] not in own and int(names[-2]) != label:
            raise ValueError(
                f"dsm_ext: {path} is of class {int(names[-2])} by its folder's number and of class "
                f"{label} by its WordNet id: rename one of them"
            )
    return [label for label in labels if label is not None]


def _wordnet_class(path: Path, names: Sequence[str], wordnet: dict[str, int]) -> int | None:
    """The class by the WordNet ids in the names of a picture and its folders, innermost first."""
    if not wordnet:
        return None
    ids = [m.group() for name in reversed(names) if (m := WORDNET_ID.search(name))]
    label = next((wordnet[i] for i in ids if i in wordnet), None)
    if label is None and ids:
        raise ValueError(
            f"dsm_ext: no label for {path}: {ids[0]} is not one of the model's classes"
        )
    return label


def _class_names(
    num_classes: int,
    label_names: Sequence[str] | Mapping[Any, str] | None,
    descriptions: Sequence[str] | None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Two dicts from names to classes: the model's own names, and WordNet ids."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if isinstance(label_names, Mapping):
        label_names = [label_names[i] for i in sorted(label_names, key=int)]
    own: dict[str, int] = {}
    if label_names is not None and len(label_names) != num_classes:
        report(f"{len(label_names)} label names are not used: the model has {num_classes} classes")
    elif label_names is not None:
        count = Counter(label_names)
        own = {name: i for i, name in enumerate(label_names) if count[name] == 1}
    for names in _called(descriptions, num_classes):
        count = Counter(names)
        own = {name: i for i, name in enumerate(names) if count[name] == 1} | own
    wordnet = {name: i for name, i in own.items() if WORDNET_ID.fullmatch(name)}
    subset = infer_imagenet_subset({"num_classes": num_classes})
    if not wordnet and subset is not None:
        wordnet = {name: i for i, name in enumerate(ImageNetInfo(subset).label_names())}
    return own, wordnet


def _called(descriptions: Sequence[str] | None, num_classes: int) -> Iterator[list[str]]:
    """The descriptions of all classes, then the first name in each description."""
    if descriptions is not None and len(descriptions) == num_classes:
        yield list(descriptions)
        yield [description.partition(",")[0].strip() for description in descriptions]


def _below(path: Path, folder: str | Path) -> tuple[str, ...]:
    """The names of the folders from ``folder`` to a file, and the file's name."""
    try:
        return Path(path).relative_to(folder).parts
    except ValueError:
        raise ValueError(f"dsm_ext: {path} is not below {folder}") from None


def _folder_classes(
    leaves: set[str], folder: str | Path, num_classes: int, own: dict[str, int], numbers: bool
) -> dict[str, int]:
    """The class for each folder name."""
    ordered = sorted(leaves, key=natural_order)
    if len(ordered) > num_classes:
        raise ValueError(
            f"dsm_ext: {folder} has {len(ordered)} folders, the model {num_classes} classes"
        )
    known = [leaf for leaf in ordered if leaf in own]
    if len(known) == len(ordered):
        return {leaf: own[leaf] for leaf in ordered}
    if numbers:
        for leaf in ordered:
            if not 0 <= int(leaf) < num_classes:
                raise ValueError(
                    f"dsm_ext: the folder {leaf} in {folder} is not a class of the model: folders "
                    f"named by numbers are its classes, expected 0 to {num_classes - 1}"
                )
        return {leaf: int(leaf) for leaf in ordered}
    if known:
        other = next(leaf for leaf in ordered if leaf not in own)
        raise ValueError(
            f"dsm_ext: the folder {other} in {folder} is not one of the model's label names, but "
            f"{known[0]} is: use these names for all folders of pictures or for none"
        )
    return {leaf: i for i, leaf in enumerate(ordered)}


def _say_doubts(
    places: set[tuple[str, ...]], used: set[str], folder: str | Path, num_classes: int
) -> None:
    """Report folders whose labels may differ from what the user expects."""
    shared = Counter(place[-1] for place in places if place[-1] in used)
    name, count = shared.most_common(1)[0]
    if count > 1:
        report(f"{count} folders named {name} in {folder} are one class, as in timm")
    if len(used) < num_classes:
        report(f"{folder} has {len(used)} folders of pictures, the model {num_classes} classes")
