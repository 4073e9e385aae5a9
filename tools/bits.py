"""Hashes the results of models, to show that a change of the code changes no bit of any result.

    python tools/bits.py write before.json     before the change
    python tools/bits.py compare before.json   after the change, on the same machine

The models have random weights: a small model of every kind that the library supports, and one of
DeiT's tiny shape. Each model runs with several schedules, batch sizes, numbers of threads and
dtypes, on both CPU paths. Hashes from two machines cannot be compared, because processors may add
the terms of a sum in different orders.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import dsm_ext

SMALL = {"img_size": (64, 96), "patch_size": (8, 8), "embed_dim": 96, "depth": 5, "num_heads": 3,
         "mlp_dim": 200, "num_classes": 10}  # fmt: skip
KINDS = {
    "plain": {},
    "distilled": {"distilled": True},
    "registers": {"reg_tokens": 4, "no_embed_class": True, "qk_norm": True},
    "average": {"class_token": False, "global_pool": "avg", "fc_norm": True, "final_norm": False},
    "map": {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
    "no_pool": {"global_pool": "", "num_classes": 0, "embed_norm": True},
    "gated": {"mlp_layer": "swiglu", "act_layer": "silu", "norm_layer": "rms_norm",
              "scale_mlp_norm": True, "scale_attn_norm": True, "layer_scale": True},
    "packed_gate": {"mlp_layer": "glu", "act_layer": "quick_gelu", "pre_norm": True,
                    "qkv_bias": False},
    "parallel": {"block": "parallel", "qk_norm": True, "layer_scale": True},
    "parallel_no_bias": {"block": "parallel", "qkv_bias": False, "pool_include_prefix": True,
                         "global_pool": "avg"},
}  # fmt: skip
TINY = {"embed_dim": 192, "num_heads": 3, "mlp_dim": 768}
SCHEDULES = (
    "dense",
    "dsm:r=10,skip=1,local=2,window=4",
    "tome:r=8",
    "dfe:r=9,skip=2,proportional=false",
)


def weights_of(config: dsm_ext.Config) -> dict[str, torch.Tensor]:
    shapes = dsm_ext.VisionTransformer(config, "dense").state_dict()
    random = torch.Generator().manual_seed(7)
    return {
        name: (1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0)
        + 0.2 * torch.randn(tensor.shape, generator=random)
        / max(1.0, (tensor.shape[-1] / 16) ** 0.5)
        for name, tensor in shapes.items()
    }  # fmt: skip


def schedules_of(config: dsm_ext.Config) -> list[dsm_ext.Schedule | str]:
    if config.depth == 12:
        return ["dense", "dsm:r=16", "tome:r=13"]
    both: list[object] = [None] * config.depth
    both[1] = [dsm_ext.Local(12, 4), dsm_ext.Global(7)]
    both[3] = dsm_ext.Global(20)
    return [*SCHEDULES, dsm_ext.Schedule(both)]


def tensors_of(model: dsm_ext.VisionTransformer, images: torch.Tensor) -> Iterator[torch.Tensor]:
    yield model(images)
    yield from model.trace(images)
    yield from model.forward_with_features(images)
    yield model.forward_features(images, dense=True)
    depth = model.config.depth
    for intermediate in model.forward_intermediates(images, [0, depth - 2], norm=True):
        yield from intermediate


def digest(tensors: Iterator[torch.Tensor]) -> str:
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        hashed.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:16]


def combinations() -> Iterator[tuple[str, str]]:
    """Names of the combinations, and their hashes."""
    kinds = {name: {**SMALL, **fields} for name, fields in KINDS.items()} | {"tiny": TINY}
    for kind, fields in kinds.items():
        config = dsm_ext.Config(**fields)
        weights = weights_of(config)
        for dtype, path in ((torch.float32, "fast"), (torch.float32, "aten"),
                            (torch.bfloat16, "aten")):  # fmt: skip
            mine = {name: tensor.to(dtype) for name, tensor in weights.items()}
            model = dsm_ext.VisionTransformer(config, "dense", mine)
            if path == "aten":
                model.cpu_path = "aten"
            for schedule in schedules_of(config):
                model.schedule = schedule
                batches = (1, 4) if kind == "tiny" else (1, 3, 11)
                for batch, threads in itertools.product(batches, (1, 2)):
                    torch.set_num_threads(threads)
                    random = torch.Generator().manual_seed(batch)
                    shape = (batch, 3, *config.img_size)
                    images = torch.randn(shape, generator=random).to(dtype)
                    name = f"{kind} {dtype} {path} {schedule} batch {batch} threads {threads}"
                    yield name, digest(tensors_of(model, images))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    hashes = dict(combinations())
    if arguments.command == "write":
        arguments.file.write_text(json.dumps(hashes, indent=1))
        print(f"{len(hashes)} hashes in {arguments.file}")
        return 0
    before = json.loads(arguments.file.read_text())
    changed = [name for name in sorted(before | hashes) if before.get(name) != hashes.get(name)]
    print(*(f"changed: {name}" for name in changed), sep="\n", end="\n" if changed else "")
    print(f"{len(hashes) - len(changed)} of {len(hashes)} are equal")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
