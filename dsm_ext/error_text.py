"""Short texts about values, for error messages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

_LONGEST = 80


def described(value: Any) -> str:
    """Say what a value is, in at most about 150 characters.

    Numbers, strings and paths are shown and shortened. For every other value the text has its type,
    and its shape, its length or its first keys.
    """
    kind = _cut(type(value).__name__)
    if value is None or isinstance(value, (bool, int, float, str, bytes, os.PathLike)):
        return _shown(value)
    if isinstance(value, type):
        return f"the class {_cut(value.__name__)}"
    if isinstance(value, Tensor):
        return f"a {kind} of shape {_cut(str(list(value.shape)))} and {value.dtype}"
    if isinstance(value, nn.Module):
        return f"a {_cut(type(value).__module__)}.{kind}"
    if isinstance(value, Mapping):
        tensors = sum(isinstance(item, Tensor) for item in value.values())
        content = f"{tensors} tensors" if tensors == len(value) else f"{len(value)} entries"
        keys = listed((_shown(key, 40) for key in value), 2, len(value))
        return f"a {kind} of {content}" + (f" ({keys})" if len(value) else "")
    if isinstance(value, (list, tuple, set, frozenset)):
        if len(value) <= 4 and all(item is None or type(item) in _PLAIN for item in value):
            return _shown(value)
        return f"a {kind} of {len(value)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the {kind} {_cut(str(value.__name__))}"
    return f"a {kind}" if kind[:1] not in "aeiouAEIOU" else f"an {kind}"


_PLAIN = (bool, int, float, str)


def listed(names: Iterable[str], most: int = 8, count: int | None = None) -> str:
    """Join at most ``most`` names with commas, and say how many more there are."""
    shown: list[str] = []
    total = 0
    for name in names:
        total += 1
        if len(shown) < most:
            shown.append(_cut(name))
        elif count is not None:
            break
    more = (total if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _shown(value: Any, longest: int = _LONGEST) -> str:
    if isinstance(value, (str, bytes)) and len(value) > longest:
        return f"{value[:longest]!r}..."
    try:
        return _cut(repr(value), longest)
    except Exception:  # an integer of thousands of digits, or a class with a broken repr
        return f"a {type(value).__name__}"


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[:longest] + "..."
