"""Making timm's models by name."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import timm
import torch

from dsm_ext.error_text import described
from dsm_ext.timm_models.config import config_of
from dsm_ext.timm_models.support import check_supported

_POOLS = ("", "token", "avg", "map", "avgmax", "max", "prr")  # timm's. The last three are refused


def arguments(
    *, img_size: Any, num_classes: Any, in_chans: Any, global_pool: Any
) -> dict[str, Any]:
    """Keyword arguments for ``timm.create_model``: those that are not None.

    Raises:
        TypeError: an argument has another type.
        ValueError: a number is out of range; img_size has not one or two numbers; or global_pool is
            unknown.
    """
    out: dict[str, Any] = {}
    if img_size is not None:
        out["img_size"] = _size(img_size)
    if num_classes is not None:
        out["num_classes"] = whole_number("num_classes", num_classes, 0, 1 << 24)
    if in_chans is not None:
        out["in_chans"] = whole_number("in_chans", in_chans, 1, 1 << 12)
    if global_pool is not None:
        if not isinstance(global_pool, str):
            raise TypeError(
                "dsm_ext.from_timm: expected global_pool to be a string, got "
                f"{described(global_pool)}"
            )
        if global_pool not in _POOLS:
            raise ValueError(
                "dsm_ext.from_timm: expected global_pool to be one of '', 'token', 'avg' and "
                f"'map', got {described(global_pool)}"
            )
        out["global_pool"] = global_pool
    return out


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """An integer within bounds. Takes all that ``operator.index`` takes, except bool."""
    try:
        if isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        number = operator.index(value)
    except Exception as error:  # tensors of several elements raise other types than TypeError
        raise TypeError(
            f"dsm_ext.from_timm: expected {name} to be an integer, got {described(value)}"
        ) from error
    if not least <= number <= most:
        raise ValueError(
            f"dsm_ext.from_timm: expected {name} to be in [{least}, {most}], got "
            f"{described(number)}"
        )
    return number


def _size(size: Any) -> tuple[int, int]:
    ordered = isinstance(size, Iterable) and not isinstance(size, (str, bytes, dict, set))
    if ordered and getattr(size, "ndim", 1) != 0:
        try:
            sides = [side for side, _ in zip(size, range(3), strict=False)]
        except TypeError:
            sides = []
        if len(sides) != 2:
            raise ValueError(
                "dsm_ext.from_timm: expected img_size to be a side in pixels or (height, width), "
                f"got {described(size)}"
            )
    else:
        sides = [size, size]
    height, width = (whole_number("img_size", side, 1, 1 << 16) for side in sides)
    return height, width


def shape_of(name: str, kwargs: dict[str, Any]) -> Any:
    """Make a supported model by name in eval mode on the meta device, that is without values.

    Raises:
        ValueError: timm has no such model, or cannot make it with these arguments.
        NotImplementedError: the model is not supported.
    """
    if not name or (":" not in name and not timm.is_model(name.split(".")[0])):
        raise ValueError(f"dsm_ext.from_timm: timm has no model named {described(name)}")
    try:
        with torch.device("meta"):
            model = timm.create_model(name, **kwargs).eval()
    except _TIMM_REFUSES as error:
        if isinstance(error, OSError):  # from the hub
            raise
        if kwargs:
            shape_of(name, {})  # raises if the name alone is not supported
        raise _refused(name, kwargs, error) from error
    check_supported(model)
    config_of(model)  # raises if a number is out of range
    return model


def create(name: str, kwargs: dict[str, Any], pretrained: bool) -> Any:
    """Make the model in eval mode, with the weights that timm downloads or with random ones.

    Raises:
        ValueError: timm has no weights for this name.
    """
    try:
        return timm.create_model(name, pretrained=pretrained, **kwargs).eval()
    except _TIMM_REFUSES as error:
        of_hub = isinstance(error, OSError)
        if of_hub or not (kwargs or "pretrained" in str(error).lower()):
            raise
        raise _refused(name, kwargs, error) from error


_TIMM_REFUSES = (AssertionError, RuntimeError, TypeError, ValueError)


def _refused(name: str, kwargs: dict[str, Any], error: Exception) -> ValueError:
    given = "".join(f", {key}={value!r}" for key, value in kwargs.items())
    return ValueError(
        f"dsm_ext.from_timm: timm does not make {described(name)}{given}: "
        f"{' '.join(str(error).split())[:300] or type(error).__name__}"
    )
