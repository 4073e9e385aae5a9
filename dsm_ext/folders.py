"""Folders of pictures: finding and labelling them."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

# Formats that Pillow opens but cannot decode by itself: they need Ghostscript, Windows, a handler
# of another package, or are films.
NEEDS_OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
WORDNET_ID = re.compile(r"(?<![A-Za-z0-9])n[0-9]{8}(?![0-9])")
NUMBER = re.compile(r"-?[0-9]+")


def suffixes() -> set[str]:
    """The endings, in small letters, of the picture formats that this Pillow decodes."""
    # Pillow finds MPO, which it lists as a format of its own, by opening a JPEG.
    return {
        suffix
        for suffix, name in Image.registered_extensions().items()
        if (name in Image.OPEN or name == "MPO") and name not in NEEDS_OTHERS
    }


def find_images(folder: str | Path) -> list[Path]:
    """The pictures below a folder, by their endings, in timm's order: file2 before file10.

    Links are followed, but for those that lead back to a folder above them. A folder that two links
    lead to is read twice. Hidden files and folders, and macOS's ``__MACOSX``, are passed over;
    other files that are no pictures are counted on stderr.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        OSError: a folder below it cannot be listed, which would make classes disappear.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {folder}")
    known = suffixes()
    files = list(_walk(folder, []))
    found = sorted((p for p in files if p.suffix.lower() in known), key=_natural)
    others = Counter(
        p.suffix.lower() or "no ending" for p in files if p.suffix.lower() not in known
    )
    passed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not found:
        raise FileNotFoundError(
            f"dsm_ext: no pictures in {folder}"
            + (f", only other files: {passed}" if others else "")
        )
    if others:
        count = f"{others.total()} of {len(files)} files"
        _say(f"passed over in {folder}, no pictures by their endings: {count} ({passed})")
    return found


def _walk(folder: Path, above: list[Path]) -> Iterator[Path]:
    """Files below a folder. above: the real places of the folders that lead here."""
    chain = [*above, Path(os.path.realpath(folder))]
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise type(error)(f"dsm_ext: {folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        path = folder / entry.name
        # A link that leads nowhere counts as a file, so that whoever reads it names it.
        if entry.is_symlink() and not os.path.exists(path):
            yield path
            continue
        if not entry.is_dir():
            if entry.is_file():  # and no pipe, which would wait for somebody to write
                yield path
            continue
        target = Path(os.path.realpath(path))
        if any(place.is_relative_to(target) for place in chain):
            _say(f"{path} is a link that leads back to {target}: it is not followed")
            continue
        yield from _walk(path, chain)


def label_images(
    paths: Sequence[Path],
    folder: str | Path,
    num_classes: int,
    label_names: Sequence[str] | Mapping[Any, str] | None = None,
    descriptions: Sequence[str] | None = None,
) -> list[int]:
    """The class of each picture.

    The first of these that applies:

    - the name of a file, or of a folder that leads to it, has a WordNet id (n01440764), and the
      model's classes are such ids: those in ``label_names``, else ImageNet's in the order that timm
      has for so many classes, such as 1000;
    - the folders that hold the pictures are named as ``label_names`` or ``descriptions`` are, or by
      the first of the names in a description ("tench" of "tench, Tinca tinca");
    - all of these folders are named by numbers: these are the classes, counted from 0, with or
      without leading zeros, all of them there or not;
    - otherwise the classes are the names of these folders in timm's order: a2 before a10.

    Fewer folders than classes are said on stderr, and so is a name that several folders have: they
    are one class.

    Args:
        paths: pictures below ``folder``.
        num_classes: of the model.
        label_names: the model's own name for each class, as ``label_names`` in timm's
            ``pretrained_cfg``: a list, or a dict by index. Where their number is not
            ``num_classes`` they are not used, which is said on stderr. A name that two classes
            have says nothing.
        descriptions: what people call each class.

    Raises:
        ValueError: pictures without a label (the first is named), more folders than classes, a
            number that is no class, or a number and a WordNet id that contradict each other.
    """
    own, wordnet = _class_names(num_classes, label_names, descriptions)
    parts = [_below(path, folder) for path in paths]
    places = {p[:-1] for p in parts if len(p) > 1}
    leaves = {place[-1] for place in places}  # timm's classes, however deep they are
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
            _say(
                f"no folder in {folder} has the name of a class: they are taken for the classes "
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
    """By the ids in a picture's name and its folders' names, the innermost first."""
    if not wordnet:
        return None
    ids = [m.group() for name in reversed(names) if (m := WORDNET_ID.search(name))]
    label = next((wordnet[i] for i in ids if i in wordnet), None)
    if label is None and ids:
        raise ValueError(f"dsm_ext: no label for {path}: {ids[0]} is none of the model's classes")
    return label


def _class_names(
    num_classes: int,
    label_names: Sequence[str] | Mapping[Any, str] | None,
    descriptions: Sequence[str] | None,
) -> tuple[dict[str, int], dict[str, int]]:
    """The model's own names for its classes, and the WordNet ids that are classes."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if isinstance(label_names, Mapping):
        label_names = [label_names[i] for i in sorted(label_names, key=int)]
    own: dict[str, int] = {}
    if label_names is not None and len(label_names) != num_classes:
        _say(f"{len(label_names)} label names are not used: the model has {num_classes} classes")
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
    """The descriptions of all classes, and the first name in each."""
    if descriptions is not None and len(descriptions) == num_classes:
        yield list(descriptions)
        yield [description.partition(",")[0].strip() for description in descriptions]


def _below(path: Path, folder: str | Path) -> tuple[str, ...]:
    """The names that lead from a folder to a file below it."""
    try:
        return Path(path).relative_to(folder).parts
    except ValueError:
        raise ValueError(f"dsm_ext: {path} is not below {folder}") from None


def _folder_classes(
    leaves: set[str], folder: str | Path, num_classes: int, own: dict[str, int], numbers: bool
) -> dict[str, int]:
    """The class of each folder name."""
    ordered = sorted(leaves, key=_natural)
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
                    f"dsm_ext: the folder {leaf} in {folder} is no class of the model: folders "
                    f"named by numbers are its classes, expected 0 to {num_classes - 1}"
                )
        return {leaf: int(leaf) for leaf in ordered}
    if known:
        other = next(leaf for leaf in ordered if leaf not in own)
        raise ValueError(
            f"dsm_ext: the folder {other} in {folder} is none of the model's label names, "
            f"{known[0]} is one: name all folders of pictures by them, or none"
        )
    return {leaf: i for i, leaf in enumerate(ordered)}


def _say_doubts(
    places: set[tuple[str, ...]], used: set[str], folder: str | Path, num_classes: int
) -> None:
    """Tell what may make labels by folders differ from what somebody meant."""
    shared = Counter(place[-1] for place in places if place[-1] in used)
    name, count = shared.most_common(1)[0]
    if count > 1:
        _say(f"{count} folders named {name} in {folder} are one class, as timm has it")
    if len(used) < num_classes:
        _say(f"{folder} has {len(used)} folders of pictures, the model {num_classes} classes")


def _natural(name: str | Path) -> tuple[list[str | int], str]:
    """timm's order: numbers by their value, letters whatever their case."""
    text = str(name)
    parts = re.split(r"(\d+)", text.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def _say(text: str) -> None:
    print(f"dsm_ext: {text}", file=sys.stderr)
