"""Checks every plain or rotary Vision Transformer in timm's registry, with random weights.

    PYTHONPATH=tests python tools/registry.py [--output FILE] [--only PART]... [--module NAME]...

Each supported model is compared with timm (dense) and with the reference (merging). Each other
model must be refused with a message that names the unsupported feature. A walk takes half an hour
on two cores. With --only or --module, rows of other models stay as they are in the file, and new
rows name the versions of timm and torch that are not the file's. The README's table of supported
models is drawn from the file that this tool writes. PYTHONPATH names the folder of the helper
modules that this tool shares with the tests.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from models import images_for, randomize
from near_ties import recorded_margins
from tolerance import NEAR_TIE

import dsm_ext
from dsm_ext import reference

MODULES = ("vision_transformer", "deit", "eva")
MOST_PARAMETERS = 150e6  # a larger model is built with fewer blocks
LEAST_DEPTH = 4
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "registry.json"


def names(modules: Sequence[str] = MODULES) -> list[str]:
    return [name for module in modules for name in timm.list_models(module=module)]


def depth_for(name: str) -> tuple[int, dict[str, Any]]:
    """The depth of the model, and the arguments for building it with as many blocks as memory and
    time allow."""
    with torch.device("meta"):
        model = timm.create_model(name)
    depth = len(model.blocks)
    block = sum(p.numel() for p in model.blocks.parameters()) / depth
    built = min(depth, max(LEAST_DEPTH, int(MOST_PARAMETERS / block)))
    if built == depth:
        return depth, {}
    kv_heads = [getattr(block.attn, "num_kv_heads", None) for block in model.blocks]
    if len(set(kv_heads)) == 1:
        return depth, {"depth": built}
    fewer = [kv_heads[depth // 2]] * (built - 2)  # the first and the last block have all heads
    return depth, {"depth": built, "num_kv_heads": (kv_heads[0], *fewer, kv_heads[0])}


def walk(name: str) -> dict[str, Any]:
    """One row of the result: the largest relative differences, or why the model is refused."""
    depth, arguments = depth_for(name)
    row: dict[str, Any] = {"model": name, "depth": depth, "built": arguments.get("depth", depth)}
    with torch.device("meta"):
        shape = timm.create_model(name, **arguments)
    try:
        dsm_ext.timm_features.check_supported(shape)
    except NotImplementedError as error:
        return row | {"refused": str(error)}
    model = randomize(filled(shape))
    fast = dsm_ext.from_timm(model, "dense")
    images = images_for(model, 1)
    with torch.inference_mode():
        row["dense"] = difference(fast(images), model(images))
    fast.schedule = "dsm"
    row["tokens"] = [fast.plan.tokens_dense, fast.plan.tokens_out]
    row["merged"], row["near_ties"] = merged_difference(model, fast, images)
    return row


def filled(model: torch.nn.Module) -> torch.nn.Module:
    """Give a model on the meta device random weights; timm's initialisation takes far longer."""
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5 if name == "rope.freqs" else 0.02)
            else:
                parameter.fill_(0 if name.endswith("bias") else 1)
    for module in model.modules():
        if hasattr(module, "init_non_persistent_buffers"):  # rotations, and a bias of zeros
            module.init_non_persistent_buffers()
    return model


def merged_difference(model: Any, fast: Any, images: torch.Tensor) -> tuple[float, int]:
    """The relative difference of the logits, and how many images were passed over.

    An image is passed over when rounding alone could decide one of its merges.
    """
    for passed_over in range(8):
        with recorded_margins() as margins:
            expected = reference.forward(model, images, fast.schedule)
        if not margins or torch.stack(margins).min() > NEAR_TIE:
            return difference(fast(images), expected), passed_over
        images = torch.randn_like(images)
    raise AssertionError("near-ties in eight images in a row")


def difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape, f"{actual.shape} for {expected.shape}"
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", action="append", help="walk names with this part alone")
    parser.add_argument("--module", action="append", choices=MODULES, help="walk this one alone")
    args = parser.parse_args()
    versions = {"timm": timm.__version__, "torch": torch.__version__}
    of_file, rows = versions, {}
    if (args.only or args.module) and args.output.exists():
        found = json.loads(args.output.read_text())
        of_file, rows = found["versions"], {row["model"]: row for row in found["rows"]}
    others = {key: value for key, value in versions.items() if of_file[key] != value}
    for name in names(args.module or MODULES):
        if args.only and not any(part in name for part in args.only):
            continue
        torch.manual_seed(0)
        try:
            rows[name] = walk(name) | others
        except Exception as error:  # the walk goes on; main returns 1
            rows[name] = {"model": name, "failed": f"{type(error).__name__}: {error}"}
        print(rows[name], flush=True)
    result = {"versions": of_file, "rows": [rows[name] for name in names() if name in rows]}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return int(any("failed" in row for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
