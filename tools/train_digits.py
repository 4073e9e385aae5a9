"""Trains the demo's small ViT on scikit-learn's digits: writes dsm_ext/data/digits.safetensors.

    python tools/train_digits.py [--epochs 45]
    python tools/train_digits.py --model dinov3 --output FILE   # with rotary positions

This takes about 15 minutes on two cores. ``dsm_ext.digits.load_digits`` sets some digits aside for
testing. They are used only for the accuracy that is printed after each epoch.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import PatchDropout, PatchDropoutWithIndices
from timm.models.eva import Eva

from dsm_ext import digits


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


def drop_patches(model: torch.nn.Module, progress: float) -> None:
    """Let the model see a random part of the patches: neighbours look alike, so this saves time.

    Args:
        model: the model that is trained.
        progress: how much of the training is done, from 0 to 1. A model with learned positions sees
            a half of the patches in the first two thirds of the training. A rotary model, which
            knows the grid's geometry from the start, sees a quarter in the first half and a half
            until five sixths. At the end both see all patches.
    """
    if isinstance(model, Eva):
        rate = 0.75 if progress < 1 / 2 else 0.5 if progress < 5 / 6 else 0.0
        model.patch_drop = PatchDropoutWithIndices(rate, num_prefix_tokens=1) if rate else None
    else:
        rate = 0.5 if progress < 2 / 3 else 0.0
        model.patch_drop = PatchDropout(rate, num_prefix_tokens=1)


@torch.no_grad()
def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    hits = [
        (model(x).argmax(1) == y) for x, y in zip(images.split(60), labels.split(60), strict=True)
    ]
    return torch.cat(hits).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model",
        choices=["learned", *digits.ROTARY_ARCHITECTURE],
        default="learned",
        help="the demo's model with learned positions, or a kind of rotary positions",
    )
    parser.add_argument("--output", type=Path, help="default: the demo's file, for its model only")
    args = parser.parse_args()
    if args.output is None and args.model != "learned":
        parser.error(f"--model {args.model} needs --output")

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images, labels = digits.load_digits("train")
    test_images, test_labels = digits.load_digits("test")
    model = create(args.model)

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=args.lr
    )
    steps = args.epochs * (len(labels) // args.batch)
    warmup = steps // 12
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )

    start = time.perf_counter()
    for epoch in range(args.epochs):
        drop_patches(model, epoch / args.epochs)
        model.train()
        order = torch.randperm(len(labels), generator=generator)
        total = 0.0
        for index in order.split(args.batch):
            if len(index) < args.batch:
                continue
            logits = model(augment(images[index], generator))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1:3d}  loss {total / (len(labels) // args.batch):.4f}  "
            f"held-out {accuracy(model, test_images, test_labels):.4f}  "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )

    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    output = args.output or digits.WEIGHTS
    output.parent.mkdir(exist_ok=True)
    save_file(state, output, metadata={"format": "pt"})
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
