"""``dsm-ext classify``: the five most likely classes of each picture, dense and merged."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter

from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.prepared import PreparedPictures
from dsm_ext.cli.run_settings import run_settings

INDENT, GAP = 2, 4


def run(args: argparse.Namespace) -> int:
    device, dtype = run_settings(args)
    opened = open_model(args, dtype, device)
    opened.check_classifier()
    model, pictures = opened.model, PreparedPictures(opened.transform())
    numbers = [str(i) for i in range(model.config.num_classes)]
    names = short_names(opened.class_names() or numbers)
    merged = model.schedule
    width = shutil.get_terminal_size().columns  # 80 if the output is not a terminal
    for path, image in pictures.prepare(args.images):
        images = image[None].to(device, dtype)
        columns = []
        for title, schedule in (("dense", "dense"), (args.schedule or "merged", merged)):
            model.schedule = schedule
            likely = model(images).float().softmax(1)[0].topk(min(5, len(names)))
            shares, indices = likely.values.tolist(), likely.indices.tolist()
            cells = [f"{100 * p:5.1f} %  {names[i]}" for p, i in zip(shares, indices, strict=True)]
            columns.append([title, *cells])
        print(path)
        print(beside(width, *columns))
    return pictures.status()


def short_names(labels: list[str]) -> list[str]:
    """The first name of each class ("tench" of "tench, Tinca tinca"), all if two share it."""
    whole = [" ".join(label.split()) for label in labels]
    first = [label.partition(",")[0] for label in whole]
    count = Counter(first)
    return [f if count[f] == 1 and f else w for f, w in zip(first, whole, strict=True)]


def beside(width: int, left: list[str], right: list[str]) -> str:
    """Two columns side by side. Lines are at most ``width`` wide; longer text ends with dots.

    If one column needs less than half of the width, the other column gets the rest.
    """
    space = max(width - INDENT - GAP, 2)
    needed = [max(map(len, column)) for column in (left, right)]
    half = space // 2
    first = min(needed[0], max(half, space - needed[1]))
    second = space - first
    return "\n".join(
        f"{'':{INDENT}}{_cut(a, first):{first + GAP}}{_cut(b, second)}".rstrip()
        for a, b in zip(left, right, strict=True)
    )


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: width - 3].rstrip() + "..." if width > 3 else text[:width]
