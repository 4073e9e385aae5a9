"""Trains the demo's small ViT on scikit-learn's digits: writes dsm_ext/data/digits.safetensors.

    python -m tools.train_digits [--epochs 45]
    python -m tools.train_digits --model dinov3 --output FILE   # with rotary positions
    python -m tools.train_digits --optimizer sam --output FILE  # sharpness-aware, tools/sam.py

This takes about 15 minutes on two cores, and with SAM, which computes two gradients a step, about
30. ``dsm_ext.digits.load_digits`` sets some digits aside for testing. They are used only for the
accuracy that is printed after each epoch. ``benchmarks/study/sharpness`` trains by the same code.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import PatchDropout, PatchDropoutWithIndices
from timm.models.eva import Eva

from dsm_ext import digits
from tools.sam import Sam

OPTIMIZERS = ("adamw", "sam")
Dropping = tuple[tuple[float, float], ...]
"""Rates of patch dropping: each with the progress, from 0 to 1, before which it holds."""

# Neighbours look alike, so a model learns faster from a random part of the patches. A rotary model
# knows the grid's geometry from the start and can do with fewer. At the end both see all patches.
DROPPING: Dropping = ((2 / 3, 0.5), (1.0, 0.0))
ROTARY_DROPPING: Dropping = ((1 / 2, 0.75), (5 / 6, 0.5), (1.0, 0.0))


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are the demo's."""

    model: str = "learned"
    """"learned": the demo's model. Otherwise its kind of rotary positions."""
    epochs: int = 45
    batch: int = 24
    lr: float = 1e-3
    seed: int = 0
    optimizer: str = "adamw"
    """"adamw" or "sam", which is AdamW with SAM's gradient."""
    rho: float = 0.05
    """SAM's radius."""
    dropping: Dropping | None = None
    """None: the one that suits the model."""
    spread: float = 1.0
    """By what the random weights of the blocks are multiplied. timm's are so small for so narrow a
    model that the first eight epochs or so learn almost nothing; 4 shortens this to two."""


@dataclass(frozen=True)
class Epoch:
    """What ``train`` tells after each epoch."""

    number: int
    """How many epochs are done."""
    loss: float
    """The mean of the training losses of the epoch."""
    model: torch.nn.Module
    snapshot: Callable[[], dict[str, Any]]
    """Everything that ``train`` needs to go on from here, for ``torch.save``."""


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turns, scales and shifts each image [n, 1, H, W] by a small random amount."""
    n = len(images)
    angle, scale, dx, dy = (torch.rand(4, n, generator=generator) * 2 - 1).unbind()
    angle, scale = angle * math.radians(12), 1 + 0.1 * scale
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack(
        [torch.stack([cos, -sin, 0.12 * dx], 1), torch.stack([sin, cos, 0.12 * dy], 1)], 1
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return (
        F.grid_sample(images + 1, grid, align_corners=False) - 1
    )  # padded with -1, the background


def sincos_positions(dim: int, grid: int) -> torch.Tensor:
    """2-D sine and cosine position embedding [1, 1 + grid * grid, dim], zero for the class."""
    angle = torch.arange(grid)[:, None] * 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    row = torch.cat([angle.sin(), angle.cos()], 1)  # [grid, dim / 2]
    table = torch.cat(
        [row[:, None].expand(-1, grid, -1), row[None].expand(grid, -1, -1)], 2
    ).reshape(1, grid * grid, dim)
    return torch.cat([torch.zeros(1, 1, dim), table], 1)


def create(name: str) -> torch.nn.Module:
    """The model to train, with random weights."""
    if name != "learned":
        return digits.create_rotary_model(name)
    model = digits.create_model(pretrained=False)
    # A few thousand steps are too few to learn the grid's geometry, so start from embeddings that
    # already describe it.
    model.pos_embed.data.copy_(
        0.5 * sincos_positions(model.embed_dim, model.patch_embed.grid_size[0])
    )
    return model


def drop_patches(model: torch.nn.Module, rate: float) -> None:
    """Let the model see a random part of the patches in training: all but ``rate`` of them."""
    if isinstance(model, Eva):
        model.patch_drop = PatchDropoutWithIndices(rate, num_prefix_tokens=1) if rate else None
    else:
        model.patch_drop = PatchDropout(rate, num_prefix_tokens=1)


@torch.no_grad()
def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    hits = [
        (model(x).argmax(1) == y) for x, y in zip(images.split(60), labels.split(60), strict=True)
    ]
    return torch.cat(hits).float().mean().item()


def training_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss [] that the training makes small, of logits [n, classes] and labels [n]."""
    return F.cross_entropy(logits, labels, label_smoothing=0.02)


def train(
    recipe: Recipe,
    images: torch.Tensor,
    labels: torch.Tensor,
    progress: Callable[[Epoch], None] | None = None,
    snapshot: dict[str, Any] | None = None,
) -> torch.nn.Module:
    """Train a digits model from random weights. The same arguments give the same model.

    Args:
        recipe: how; it decides all random numbers. They come from torch's global generator, which
            this seeds, and from one of its own.
        images: [n, 1, 56, 56] float32, at least one batch.
        labels: [n] int64.
        progress: called after each epoch. What it raises ends the training.
        snapshot: of an ``Epoch`` of the same recipe and digits; the training goes on from there.

    Returns:
        The model, in eval mode.

    Raises:
        ValueError: an unknown optimizer, or less than one batch of images.
    """
    if recipe.optimizer not in OPTIMIZERS:
        raise ValueError(f"train: expected optimizer in {OPTIMIZERS}, got {recipe.optimizer!r}")
    batches = len(labels) // recipe.batch
    if not batches:
        raise ValueError(f"train: expected at least {recipe.batch} images, got {len(labels)}")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    model = create(recipe.model)
    for layer in model.blocks.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data *= recipe.spread
    optimizer = _adamw(model, recipe.lr)
    stepper = Sam(optimizer, recipe.rho) if recipe.optimizer == "sam" else optimizer
    schedule = _learning_rate(optimizer, recipe.epochs * batches)
    done = 0
    if snapshot is not None:
        done = snapshot["epochs"]
        model.load_state_dict(snapshot["model"])
        optimizer.load_state_dict(snapshot["optimizer"])
        schedule.load_state_dict(snapshot["schedule"])
        generator.set_state(snapshot["generator"])
        torch.set_rng_state(snapshot["random"])

    def save() -> dict[str, Any]:
        return {
            "epochs": done,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": generator.get_state(),
            "random": torch.get_rng_state(),
        }

    for epoch in range(done, recipe.epochs):
        drop_patches(model, _rate(recipe, epoch / recipe.epochs))
        model.train()
        order = torch.randperm(len(labels), generator=generator)
        total = 0.0
        for index in order.split(recipe.batch)[:batches]:
            inputs, targets = augment(images[index], generator), labels[index]

            def closure(inputs: torch.Tensor = inputs, targets: torch.Tensor = targets) -> Any:
                optimizer.zero_grad()
                loss = training_loss(model(inputs), targets)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                return loss

            total += stepper.step(closure).item()
            schedule.step()
        done = epoch + 1
        if progress is not None:
            progress(Epoch(done, total / batches, model, save))
    return model.eval()


def _adamw(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    """AdamW that lets matrices decay and leaves biases and norms alone."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=lr
    )


def _learning_rate(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """It rises over a twelfth of the steps, then falls along half a cosine."""
    warmup = max(steps // 12, 1)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )


def _rate(recipe: Recipe, progress: float) -> float:
    """How much of the patches the model does not see at this progress, from 0 to 1."""
    usual = DROPPING if recipe.model == "learned" else ROTARY_DROPPING
    return next(rate for until, rate in recipe.dropping or usual if progress < until)


def main() -> None:
    usual = Recipe()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--lr", type=float, default=usual.lr)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=usual.optimizer)
    parser.add_argument("--rho", type=float, default=usual.rho, help="the radius of SAM")
    parser.add_argument(
        "--model",
        choices=["learned", *digits.ROTARY_ARCHITECTURE],
        default=usual.model,
        help="the demo's model with learned positions, or a kind of rotary positions",
    )
    parser.add_argument("--output", type=Path, help="default: the demo's file, for its model only")
    args = parser.parse_args()
    if args.output is None and (args.model, args.optimizer) != (usual.model, usual.optimizer):
        parser.error(f"--model {args.model} --optimizer {args.optimizer} needs --output")
    output = args.output or digits.WEIGHTS
    del args.output
    test = digits.load_digits("test")
    start = time.perf_counter()

    def progress(epoch: Epoch) -> None:
        print(
            f"epoch {epoch.number:3d}  loss {epoch.loss:.4f}  "
            f"held-out {accuracy(epoch.model, *test):.4f}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )

    write_weights(train(Recipe(**vars(args)), *digits.load_digits("train"), progress), output)
    print(f"wrote {output}")


def write_weights(model: torch.nn.Module, path: Path) -> None:
    """Write the model's weights in float16, as ``dsm_ext.digits`` reads them."""
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(exist_ok=True)
    save_file(state, path, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
