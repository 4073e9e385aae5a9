"""Taking values of a given type from a config, with errors that name the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dsm_ext.error_text import described

# The bounds of Config. They are far beyond any model and small enough that no size overflows.
_MOST = {
    "hidden_size": 1 << 16, "intermediate_size": 1 << 18, "num_hidden_layers": 1 << 8,
    "num_attention_heads": 1 << 16, "image_size": 1 << 16, "patch_size": 1 << 16,
    "num_channels": 1 << 12, "num_register_tokens": 1 << 16, "num_patches": 1 << 20,
}  # fmt: skip


class Reader:
    """Takes values from the config of one model_type. Each method raises ``ValueError``."""

    def __init__(self, kind: str, config: Mapping[str, Any]) -> None:
        self._kind = kind
        self._config = config

    def _value(self, key: str, default: Any = None) -> Any:
        return self._config.get(key, default)

    def fault(self, key: str, expected: str) -> ValueError:
        """The error that says what a value was expected to be."""
        return ValueError(
            f"dsm_ext: transformers' {self._kind}: expected {key} in its config to be {expected}, "
            f"got {described(self._config.get(key))}"
        )

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """An integer between ``least`` and the largest value that ``Config`` takes."""
        value = self._value(key, default)
        if not is_integer(value) or not least <= value <= _MOST[key]:
            raise self.fault(key, f"an integer in [{least}, {_MOST[key]}]")
        return int(value)

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A positive, finite number."""
        value = self._value(key, default)
        number = math.nan
        if is_integer(value) or isinstance(value, float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
        if not (math.isfinite(number) and number > 0):
            raise self.fault(key, "a positive, finite number")
        return number

    def size(self, key: str) -> tuple[int, int]:
        """A height and a width. One integer means both."""
        value = self._value(key)
        sides = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(sides) != 2 or not all(
            is_integer(side) and 1 <= side <= _MOST[key] for side in sides
        ):
            raise self.fault(key, f"an integer in [1, {_MOST[key]}] or two of them")
        return int(sides[0]), int(sides[1])

    def square_of(self, key: str, patch_size: tuple[int, int]) -> tuple[int, int]:
        """The size of the square image that has this number of patches."""
        patches = self.integer(key)
        side = math.isqrt(patches)
        if side * side != patches:
            raise self.fault(key, "the square of an integer")
        height, width = side * patch_size[0], side * patch_size[1]
        if max(height, width) > _MOST["image_size"]:
            raise self.fault(
                key,
                f"such that, with its patch_size {patch_size}, the image has sides of at most "
                f"{_MOST['image_size']} pixels",
            )
        return height, width

    def mlp_hidden(self, hidden_size: int, gated: bool) -> int:
        """The hidden width of DINOv2's MLP, or of one half of it if it has a gate."""
        hidden = hidden_size * self.positive("mlp_ratio")
        most = _MOST["intermediate_size"]
        if not 1 <= hidden <= most:
            raise self.fault("mlp_ratio", f"such that the MLP's width is in [1, {most}]")
        if not gated:
            return int(hidden)
        # two thirds, rounded up to a multiple of 8
        return (int(int(hidden) * 2 / 3) + 7) // 8 * 8


def is_integer(value: Any) -> bool:
    """Whether a value of JSON is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)
