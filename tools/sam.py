"""Sharpness-aware minimisation (SAM): a step towards weights whose whole neighbourhood fits.

From the description of Foret, Kleiner, Mobahi and Neyshabur, arXiv 2010.01412, section 2. It looks
for weights w with a small max over |e| <= rho of L(w + e), where |e| is the length over all
parameters together. To first order the worst e is rho * g / |g|, g the gradient at w.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Sam:
    """Takes the gradient of another optimiser's step at the worst neighbour of the weights.

    A step costs two gradients.

    Args:
        optimizer: it makes the step, from the weights before the ascent.
        rho: how far the neighbour is, in the units of the weights.

    Raises:
        ValueError: rho is not positive.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rho: float) -> None:
        if not rho > 0:
            raise ValueError(f"Sam: expected rho to be positive, got {rho}")
        self.optimizer, self.rho = optimizer, rho

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Make one step.

        Args:
            closure: clears the gradients, computes the loss and its gradients, and gives the loss.
                It is called twice and draws the same random numbers of the CPU both times, so that
                both gradients see the same dropped patches.

        Returns:
            The loss [] at the weights before the step.
        """
        random = torch.get_rng_state()
        with torch.enable_grad():
            loss = closure()
        groups = self.optimizer.param_groups
        moved = [p for group in groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in moved]).norm()
        before = [p.clone() for p in moved]
        for p in moved:
            p.add_(p.grad, alpha=self.rho / (norm.item() + 1e-12))
        torch.set_rng_state(random)
        with torch.enable_grad():
            closure()
        for p, old in zip(moved, before, strict=True):
            p.copy_(old)  # exactly as it was, which a subtraction would not give
        self.optimizer.step()
        return loss
