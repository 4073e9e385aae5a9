"""Compares two choices of merging in rotary models on the digits' small ViT.

    python -m benchmarks.study.rotary.rules cat=FILE dinov3=FILE dinov3=FILE

``tools/train_digits.py --model KIND`` writes such files. Several files of one kind are several
seeds. Two choices are compared. The metric is the mean of the keys after or before their rotation.
The location of a merged token is the mean of the merged locations weighted by size, or the location
of the token that the others join. For each kind, schedule and pair of choices the result holds the
KL to the dense model, the answers that stay the same and the accuracy: means over pictures and
seeds. It also holds the difference of the KL to that of the first pair, and the standard error of
this difference over the digits. A kind replaces what the result's file holds of it; other kinds in
the file stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import RESULTS
from dsm_ext import Config, Schedule, digits, reference
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.reference import RotaryRule
from dsm_ext.tuning.judge import divergence
from tools.train_digits import augment

SCHEDULES = (
    "dsm:r=12,skip=2,local=5,window=7",
    "dsm:r=16,skip=2,local=5,window=7",
    "dsm:r=20,skip=2,local=5,window=7",
    "tome:r=8",
    "tome:r=13",
    "guided:1.4",
    "guided:1.7",
)
RULES = tuple(
    RotaryRule(metric, location)
    for metric, location in product(("rotated", "unrotated"), ("centroid", "destination"))
)
# The counts of a guided schedule depend on the shape of the model, not on its positions.
_SHAPE = digits.ARCHITECTURE
CONFIG = Config(
    img_size=(_SHAPE["img_size"],) * 2,
    patch_size=(_SHAPE["patch_size"],) * 2,
    in_chans=_SHAPE["in_chans"],
    num_classes=_SHAPE["num_classes"],
    embed_dim=_SHAPE["embed_dim"],
    depth=_SHAPE["depth"],
    num_heads=_SHAPE["num_heads"],
    mlp_dim=4 * _SHAPE["embed_dim"],
)
BATCH = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+", help="KIND=FILE, such as dinov3=weights.safetensors")
    parser.add_argument(
        "--copies", type=int, default=1, help="turned and shifted copies of each held-out digit"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "rotary_rules.json")
    args = parser.parse_args()

    images, labels = pictures(args.copies)
    kinds: dict[str, list[torch.nn.Module]] = {}
    for text in args.weights:
        kind, _, file = text.partition("=")
        kinds.setdefault(kind, []).append(digits.create_rotary_model(kind, Path(file)))
    about = {"digits": len(images) // (1 + args.copies), "pictures": len(images)}
    studied = earlier(args.json, about)
    for kind, models in kinds.items():
        studied[kind] = study(models, images, labels)
        write_json(args.json, {**about, "kinds": studied, **environment()})


def earlier(path: Path, about: dict[str, int]) -> dict[str, Any]:
    """The kinds that a file already holds, if it was made from the same pictures."""
    if not path.exists():
        return {}
    result = json.loads(path.read_text())
    same = all(result[name] == value for name, value in about.items())
    return result["kinds"] if same else {}


def pictures(copies: int) -> tuple[Tensor, Tensor]:
    """The held-out digits, then ``copies`` augmented copies of them all: images and labels."""
    images, labels = digits.load_digits("test")
    generator = torch.Generator().manual_seed(0)
    copied = [augment(images, generator) for _ in range(copies)]
    return torch.cat([images, *copied]), labels.repeat(1 + copies)


def study(models: list[torch.nn.Module], images: Tensor, labels: Tensor) -> dict[str, Any]:
    """The rows of one kind of rotation: each schedule with each pair of choices."""
    dense = [over_batches(model, images) for model in models]
    rows = []
    for name in SCHEDULES:
        schedule = Schedule.parse(name, CONFIG)
        found = [measure(models, dense, images, labels, schedule, rule) for rule in RULES]
        for rule, (row, kl) in zip(RULES, found, strict=True):
            first = found[0][1]
            rows.append({"schedule": name, **rule._asdict(), **row, **difference(kl, first)})
        print(name, *(f"{row['kl']:.5f}" for row, _ in found), flush=True)
    accuracy = torch.stack([rate(logits, labels) for logits in dense]).mean().item()
    return {"seeds": len(models), "accuracy": accuracy, "rows": rows}


def over_batches(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits [n, classes] float64."""
    with torch.no_grad():
        return torch.cat([model(batch) for batch in images.split(BATCH)]).double()


def measure(
    models: list[torch.nn.Module],
    dense: list[Tensor],
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    rule: RotaryRule,
) -> tuple[dict[str, float], Tensor]:
    """Means over pictures and seeds, and each picture's KL to dense [seeds, n]."""
    logits = [
        over_batches(lambda x, m=model: reference.forward(m, x, schedule, rotary=rule), images)
        for model in models
    ]
    kl = torch.stack([divergence(own, of) for own, of in zip(logits, dense, strict=True)])
    same = [rate(own, of.argmax(1)) for own, of in zip(logits, dense, strict=True)]
    right = [rate(own, labels) for own in logits]
    row = {
        "kl": kl.mean().item(),
        "agreement": torch.stack(same).mean().item(),
        "accuracy": torch.stack(right).mean().item(),
    }
    return row, kl


def rate(logits: Tensor, answers: Tensor) -> Tensor:
    """How many of the answers a model gives, in percent."""
    return 100 * (logits.argmax(1) == answers).double().mean()


def difference(kl: Tensor, first: Tensor) -> dict[str, float]:
    """The mean difference of two KLs [seeds, n], and its standard error over the digits.

    The pictures of one digit are not independent, nor are its seeds, so they count as one value.
    """
    count = len(digits.load_digits("test")[1])
    by_digit = (kl - first).mean(0).view(-1, count).mean(0)  # [digits]
    return {
        "difference": by_digit.mean().item(),
        "standard_error": by_digit.std().item() / count**0.5,
    }


if __name__ == "__main__":
    main()
