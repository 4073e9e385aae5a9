"""Measures the memory of `dsm-ext predict` while it goes through many pictures.

    python -m benchmarks.cpu.predict_memory [--count N] [--workers N] [--json F]

The pictures are links to small JPEGs, and the model is tiny, so that a run of 100,000 rows takes
about two minutes on two cores. The memory is what Linux calls resident, of the command's process
and of its children together, pages that they share counted in each. It is compared with that after
a tenth of the rows, when all buffers are in use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

import dsm_ext
from benchmarks.common import RESULTS, ROOT
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment

RESULT = RESULTS / "predict_memory.json"
DIFFERENT = 200  # pictures; the others are links
SECONDS = 0.2  # between two looks
PAGE = os.sysconf("SC_PAGE_SIZE")


def write_model(folder: Path) -> None:
    """Export a model of two blocks, for pictures of 64 x 64 pixels."""
    torch.manual_seed(0)
    model = VisionTransformer(64, 8, embed_dim=192, depth=2, num_heads=3, num_classes=10).eval()
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), folder, model)


def write_pictures(folder: Path, count: int) -> None:
    """Fill a folder with links to JPEGs of 100 x 75 pixels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i:06}.jpg"
        if i < DIFFERENT:
            small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((100, 75)).save(path)
        else:
            path.symlink_to(f"{i % DIFFERENT:06}.jpg")


def family(pid: int) -> list[int]:
    """A process and all that it has started, as far as they still run."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in family(int(child)))]


def resident(pid: int) -> int:
    """The resident bytes of a process. 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def finished(out: Path) -> int:
    """The rows of finished shards, by the manifest."""
    try:
        return json.loads((out / "_manifest.json").read_text())["counts"]["rows"]
    except (OSError, ValueError):
        return 0


def watched(command: list[str], out: Path) -> list[dict[str, int]]:
    """Run a command. Gives the ``rows`` and bytes of ``parent`` and ``children`` at many moments.

    Raises:
        RuntimeError: the command failed.
    """
    looks = []
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            parent, *children = family(process.pid) or [0]
            looks.append(
                {
                    "rows": finished(out),
                    "parent": resident(parent),
                    "children": sum(map(resident, children)),
                    "processes": 1 + len(children),
                }
            )
            time.sleep(SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the command ended with status {process.returncode}")
    return looks


def summarized(looks: list[dict[str, int]], count: int) -> dict[str, Any]:
    """Medians of the memory in each tenth of the rows, and the last over the second.

    Looks at which a process was starting or ending are left out.
    """
    most = statistics.mode(look["processes"] for look in looks if look["rows"])
    tenths: list[dict[str, float]] = []
    for i in range(10):
        some = [
            look
            for look in looks
            if count * i <= 10 * look["rows"] < count * (i + 1)
            and look["rows"]
            and look["processes"] == most
        ]
        if some:
            middle = {
                name: statistics.median(look[name] for look in some)
                for name in ("parent", "children")
            }
            tenths.append({"rows": some[0]["rows"], **middle})
    first, last = (
        {"all": tenth["parent"] + tenth["children"], **tenth}
        for tenth in (next(one for one in tenths if one["rows"] >= count / 10), tenths[-1])
    )
    growth = {name: last[name] / first[name] for name in ("all", "parent", "children")}
    return {"processes": most, "tenths": tenths, "growth": growth}


def measure(count: int, *arguments: str) -> dict[str, Any]:
    """The memory of one run over ``count`` pictures. ``arguments``: more of the command's."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model, pictures, out = root / "model", root / "pictures", root / "out"
        write_model(model)
        write_pictures(pictures, count)
        command = [
            *(sys.executable, "-m", "dsm_ext_cli", "predict", str(model)),
            *("--images", str(pictures), "-o", str(out), "--shard-seconds", "0.5", *arguments),
        ]
        looks = watched(command, out)
        if finished(out) != count:
            raise RuntimeError(f"expected {count} rows, got {finished(out)}")
    return summarized(looks, count)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="F", default=RESULT)
    args = parser.parse_args(argv)
    found = measure(args.count, "--workers", str(args.workers))
    for tenth in found["tenths"]:
        print(
            f"{tenth['rows']:8} rows: {tenth['parent'] / 2**20:.0f} MiB, "
            f"children {tenth['children'] / 2**20:.0f} MiB"
        )
    print(f"growth: {found['growth']['all']:.3f}")
    write_json(args.json, {**environment(), "count": args.count, "workers": args.workers, **found})


if __name__ == "__main__":
    main()
