"""Compares unmerged features of patches with dense ones, by r and skip, and measures their cost.

    DSM_EXT_DATA=DIR python -m benchmarks.cpu.dense_features [--draw]

DIR is the same folder as for deit_tiny.py. With --draw, the script only draws the chart from the
JSON file. Without it, the script takes about 5 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from benchmarks.common import RESULTS
from dsm_ext.cli.model_arguments import timm_model
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.images import Batches, find_images, transform_for
from dsm_ext.model import VisionTransformer
from dsm_ext.timing import time_in_turn
from dsm_ext.timm_models.from_timm import from_timm

NAME = "deit_tiny_patch16_224"
RS = (2, 4, 8, 12, 16, 20, 24)
SKIPS = {0: "tome:r={r}", 1: "dsm:r={r},skip=1", 2: "dsm:r={r},skip=2", 4: "dsm:r={r},skip=4"}
SKIPS |= {6: "dsm:r={r},skip=6"}
COST = "dsm:r=16"
COLOURS = {0: "#8a8a8a", 1: "#c1272d", 2: "#0072b2", 4: "#009e73", 6: "#e69f00"}


def similarities(
    model: VisionTransformer, batches: list[torch.Tensor], dense: list[torch.Tensor]
) -> dict[str, float]:
    """Cosines of merged and dense features of the same patch: mean, and lowest decile."""
    prefix = model.config.prefix
    found = [
        cosine_similarity(model.forward_features(images, dense=True)[:, prefix:], target, dim=2)
        for images, target in zip(batches, dense, strict=True)
    ]
    cosines = torch.cat(found).flatten()
    lowest = cosines.kthvalue(max(1, cosines.numel() // 10)).values
    return {"mean": cosines.mean().item(), "lowest_decile": lowest.item()}


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    timm = timm_model(NAME, folder / f"{NAME}.safetensors")
    model = from_timm(timm, "dense")
    paths = find_images(folder / "imagenet_samples")
    batches = [images for images, _ in Batches(paths, transform_for(timm), 25)]
    prefix = model.config.prefix
    dense = [model.forward_features(images)[:, prefix:] for images in batches]
    # For comparison: cosines of the dense features of two different patches of one picture.
    others = [cosine_similarity(x, x.roll(x.shape[1] // 2, 1), dim=2).mean() for x in dense]
    rows = []
    for skip, text in SKIPS.items():
        for r in RS:
            model.schedule = text.format(r=r)
            row = {"skip": skip, "r": r, "schedule": text.format(r=r)}
            row |= {"gmacs": model.plan.multiply_adds / 1e9, "tokens": model.plan.tokens_out}
            rows.append(row | similarities(model, batches, dense))
            print(rows[-1], flush=True)
    model.schedule = COST
    images = batches[0][:8]
    calls = {
        "forward": lambda: model(images),
        "forward_features": lambda: model.forward_features(images),
        "forward_features, dense": lambda: model.forward_features(images, dense=True),
        "get_intermediate_layers": lambda: model.get_intermediate_layers(images, 4, norm=True),
    }
    return {
        "model": NAME,
        "pictures": len(paths),
        "other_patches": torch.stack(others).mean().item(),
        "dense_gmacs": model.plan.multiply_adds_dense / 1e9,
        "rows": rows,
        "cost": {"schedule": COST, "batch": len(images), **time_in_turn(calls, 8, rounds)},
        **environment(),
    }


def draw(result: dict[str, Any], png: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    for skip in sorted({row["skip"] for row in result["rows"]}):
        rows = [row for row in result["rows"] if row["skip"] == skip]
        label = f"skip {skip}" if skip else "ToMe"
        for axis, place in zip(axes, ("r", "gmacs"), strict=True):
            axis.plot(
                [row[place] for row in rows], [row["mean"] for row in rows],
                "o-", color=COLOURS[skip], label=label, markersize=3.5,
            )  # fmt: skip
    axes[0].set_xlabel("r, tokens merged in a block")
    axes[0].set_ylabel("cosine with the dense features")
    axes[1].set_xlabel("GMACs an image")
    axes[1].axvline(result["dense_gmacs"], color="#333333", linestyle=":", linewidth=1)
    for axis in axes:
        axis.grid(True, color="#e4e4e4", linewidth=0.7)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[1].annotate(
        "dense", (result["dense_gmacs"], axes[1].get_ylim()[0]), xytext=(-4, 4),
        textcoords="offset points", ha="right", fontsize=9, color="#333333",
    )  # fmt: skip
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"DeiT-T, {result['pictures']} pictures: unmerged features of patches; another patch of "
        f"the same picture: {result['other_patches']:.2f}",
        fontsize=9,
        color="#555555",
    )
    figure.tight_layout()
    figure.savefig(png, dpi=130)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DSM_EXT_DATA"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, default=RESULTS / "dense_features.json")
    parser.add_argument("--png", type=Path, default=RESULTS / "dense_features.png")
    parser.add_argument("--draw", action="store_true", help="the chart alone, from the JSON")
    args = parser.parse_args()
    if not args.draw:
        if args.data is None:
            parser.error("expected --data DIR or DSM_EXT_DATA")
        write_json(args.json, measure(args.data, args.rounds))
    draw(json.loads(args.json.read_text()), args.png)


if __name__ == "__main__":
    main()
