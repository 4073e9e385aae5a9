"""Measures `dsm-ext predict` beside the model alone and beside the usual script with timm.

    python -m benchmarks.cpu.predict --images DIR [--weights F] [--rounds N] [--json F]

DIR has photographs; those of about 500 x 375 pixels are taken, each as often as it takes to have
``--count`` files. The model is DeiT-S, with random weights unless a file of weights is given: they
do not change the speed, except that they decide which tokens merge. All peers take turns, each in
processes of its own, and nothing else must run. Times go from the first rows of a run to its last
ones, so the start of processes is left out for all. It takes about 7 minutes a round on two cores.

- "model": ``dsm_ext`` on pictures that are decoded and prepared already.
- "script": what people write: timm's model in eager mode, ImageFolder, a DataLoader of as many
  workers as cores, and the embeddings in a list.
- "predict": the command, on this machine. "predict, workers": with a model for each core.
- "predict, Ray": the command on Ray, with a model for each core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.common import RESULTS, ROOT
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.timing import summarize

RESULT = RESULTS / "predict.json"
NAME = "deit_small_patch16_224"
MERGED = "guided:1.7"
BATCH = 32
MOST_SIDE = 500  # pixels of a side


def link_pictures(source: Path, folder: Path, count: int) -> dict[str, Any]:
    """Fill a folder with links to photographs of the usual size, in one folder of one class."""
    found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    usual = []
    for path in found:
        with Image.open(path) as image:
            if max(image.size) <= MOST_SIDE:
                usual.append((path, image.size, path.stat().st_size))
    if not usual:
        raise ValueError(f"no JPEG of at most {MOST_SIDE} pixels a side in {source}")
    (folder / "class").mkdir(parents=True)
    for i in range(count):
        path = usual[i % len(usual)][0]
        (folder / "class" / f"{i:06}.jpg").symlink_to(path.resolve())
    middle = sorted(usual, key=lambda one: one[1][0] * one[1][1])[len(usual) // 2]
    sizes = sorted(size for _, _, size in usual)
    return {"count": count, "different": len(usual), "median_size": middle[1],
            "median_bytes": sizes[len(sizes) // 2]}  # fmt: skip


def model_alone(weights: Path, schedule: str, precision: str, seconds: float) -> float:
    """Images a second of the model, on prepared pictures."""
    import dsm_ext

    model = dsm_ext.from_timm(NAME, schedule, weights=weights, precision=precision)
    images = torch.randn(BATCH, 3, 224, 224)
    model(images)
    rates = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        model(images)
        rates.append(BATCH / (time.perf_counter() - start))
    return float(torch.tensor(rates).median())


def usual_script(folder: Path, weights: Path, workers: int) -> float:
    """Images a second of timm, torchvision's ImageFolder and torch's DataLoader."""
    import timm
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    model = timm.create_model(NAME, checkpoint_path=str(weights)).eval()
    config = timm.data.resolve_model_data_config(model)
    dataset = ImageFolder(str(folder), timm.data.create_transform(**config, is_training=False))
    loader = DataLoader(dataset, BATCH, num_workers=workers)
    embeddings: list[torch.Tensor] = []
    start = 0.0
    with torch.inference_mode():
        for images, _ in loader:
            features = model.forward_features(images)
            embeddings.append(model.forward_head(features, pre_logits=True))
            start = start or time.perf_counter()
    end = time.perf_counter()
    return (len(torch.cat(embeddings)) - len(embeddings[0])) / (end - start)


def predict(folder: Path, weights: Path, schedule: str, precision: str, *more: str) -> float:
    """Images a second that the command reports, without the start of its processes."""
    with tempfile.TemporaryDirectory() as place:
        summary = Path(place) / "summary.json"
        command = [
            *(sys.executable, "-m", "dsm_ext_cli", "predict", NAME, "--weights", str(weights)),
            *("--images", str(folder), "-o", str(Path(place) / "out"), "--batch", str(BATCH)),
            *("--schedule", schedule, "--precision", precision, "--json", str(summary), *more),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        result = json.loads(summary.read_text())
    if result["errors"]:
        raise RuntimeError(f"{result['errors']} pictures could not be read")
    return result["steady_images_per_second"]


def peers(folder: Path, weights: Path, cores: int, seconds: float) -> dict[str, list[str]]:
    """By name: the arguments with which this module measures one peer in a new process."""
    rows: dict[str, list[str]] = {"script": ["script", str(folder), str(weights), str(cores)]}
    for precision in ("float32", "int8"):
        for schedule in ("dense", MERGED):
            what = [str(weights), schedule, precision]
            rows[f"model, {schedule}, {precision}"] = ["model", *what, str(seconds)]
            run = ["predict", str(folder), *what]
            rows[f"predict, {schedule}, {precision}"] = run
            models = [*run, "--workers", str(cores)]
            rows[f"predict, workers, {schedule}, {precision}"] = models
    what = [str(folder), str(weights), "dense", "float32"]
    rows["predict, Ray, dense, float32"] = [
        *("predict", *what, "--ray", "local", "--workers", str(cores), "--cpus-per-worker", "1")
    ]
    return rows


def measured(arguments: list[str]) -> float:
    """One peer's images a second, as a process of this module prints them."""
    kind, *rest = arguments
    if kind == "predict":
        folder, weights, schedule, precision, *more = rest
        return predict(Path(folder), Path(weights), schedule, precision, *more)
    command = [sys.executable, "-m", "benchmarks.cpu.predict", "--one", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def one(arguments: list[str]) -> None:
    kind, *rest = arguments
    if kind == "model":
        weights, schedule, precision, seconds = rest
        print(model_alone(Path(weights), schedule, precision, float(seconds)))
    else:
        folder, weights, workers = rest
        print(usual_script(Path(folder), Path(weights), int(workers)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="F")
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=15, help="of the model alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="peers whose names have this text")
    parser.add_argument("--json", type=Path, metavar="F", default=RESULT)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        return one(args.one)
    if args.images is None:
        parser.error("expected --images DIR")
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place:
        weights = args.weights
        if weights is None:
            import timm

            torch.manual_seed(0)
            weights = Path(place) / "weights.safetensors"
            save_file(timm.create_model(NAME).state_dict(), weights)
        folder = Path(place) / "pictures"
        pictures = link_pictures(args.images, folder, args.count)
        rows = {
            name: arguments
            for name, arguments in peers(folder, weights, cores, args.seconds).items()
            if args.only in name
        }
        rates: dict[str, list[float]] = {name: [] for name in rows}
        result: dict[str, Any] = {**environment(), "model": NAME, "batch": BATCH,
                                  "merged": MERGED, "pictures": pictures}  # fmt: skip
        for round_ in range(args.rounds):
            order = list(rows) if round_ % 2 == 0 else list(reversed(rows))
            for name in order:
                rates[name].append(measured(rows[name]))
                print(f"{name:45} {rates[name][-1]:.1f} images/s", flush=True)
            result["rows"] = [
                {"name": name, "rate": summarize(rate), "rates": rate}
                for name, rate in rates.items()
            ]
            write_json(args.json, result)


if __name__ == "__main__":
    main()
