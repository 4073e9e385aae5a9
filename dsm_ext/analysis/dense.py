"""The dense forward of a model in halves of blocks, so that values between them can be changed."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from dsm_ext.model import VisionTransformer
from dsm_ext.reference.blocks import attention, parallel_block, scaled
from dsm_ext.reference.model import embed
from dsm_ext.reference.rotary import angles, initial_locations
from dsm_ext.timm_models.from_config import timm_model_of


class FirstHalf(NamedTuple):
    """A block up to the place where it merges."""

    tokens: Tensor
    """[B, N, C] after attention's residual; of a parallel block, after the block."""
    q: Tensor
    """[B, H, N, D], as attention multiplies them."""
    k: Tensor
    """[B, H, N, D], as attention multiplies them."""


class DenseRunner:
    """Runs a model block by block in plain PyTorch, and merges nothing.

    Args:
        model: its parameters are shared. They are float32.

    Raises:
        NotImplementedError: timm has no model of this shape.
    """

    def __init__(self, model: VisionTransformer) -> None:
        config = model.config
        self.prefix, self.grid, self.depth = config.prefix, config.grid, config.depth
        self.timm: Any = timm_model_of(config, dict(model.named_parameters()))

    def embed(self, images: Tensor) -> Tensor:
        """Prefix tokens and patches [B, N, C], which the first block takes."""
        return embed(self.timm, images)

    def first_half(self, index: int, x: Tensor) -> FirstHalf:
        """The first half of block ``index`` on tokens [B, N, C]."""
        block = self.timm.blocks[index]
        if _parallel(block):
            out, q, k, _ = parallel_block(block, x, None, "float32")
            return FirstHalf(out, q, k)
        turns = None
        if getattr(self.timm, "rope", None) is not None:
            location = initial_locations(self.grid, self.prefix, x[:1])
            turns = angles(self.timm, location[:, self.prefix :], self.grid, index)
        out, q, k, _ = attention(block.attn, block.norm1(x), None, turns, "float32")
        return FirstHalf(x + scaled(out, block, 1), q, k)

    def second_half(self, index: int, tokens: Tensor) -> Tensor:
        """The MLP of block ``index`` on tokens [B, N, C] from its first half."""
        block = self.timm.blocks[index]
        if _parallel(block):
            return tokens
        return tokens + scaled(block.mlp(block.norm2(tokens)), block, 2)

    def features(self, index: int, tokens: Tensor) -> Tensor:
        """The final features [B, N, C], after the last norm, if block ``index`` has these tokens
        after its first half."""
        x = self.second_half(index, tokens)
        for i in range(index + 1, self.depth):
            x = self.second_half(i, self.first_half(i, x).tokens)
        return self.timm.norm(x)


def _parallel(block: Any) -> bool:
    return hasattr(block, "in_proj")
