"""A trial of values for SAM's radius: one seed, and training digits that are held out for it.

    python -m benchmarks.study.sharpness.trial RHO [...] [--epochs 8]

For each rho it trains a model on four fifths of the training digits, and prints the accuracy and
the loss of the rest. The digits that the study tests with are not used, and nothing is merged: the
choice does not favour what the study asks.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from benchmarks.study.sharpness.settings import Settings
from dsm_ext import digits
from tools.train_digits import accuracy, train, training_loss


def trial(rho: float, epochs: int) -> tuple[float, float]:
    """Accuracy and loss of the held-out fifth; rho 0 is AdamW."""
    images, labels = digits.load_digits("train")
    held_out = torch.arange(len(labels)) % 5 == 0
    recipe = replace(Settings().recipe("SAM" if rho else "AdamW", 0), rho=rho, epochs=epochs)
    model = train(recipe, images[~held_out], labels[~held_out])
    with torch.no_grad():
        logits = torch.cat([model(x) for x in images[held_out].split(60)])
    loss = training_loss(logits, labels[held_out]).item()
    return accuracy(model, images[held_out], labels[held_out]), loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rho", nargs="+", type=float)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for rho in args.rho:
        right, loss = trial(rho, args.epochs)
        print(f"rho {rho:g}: accuracy {100 * right:.1f} %, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
