"""Conversions of the command line's arguments, for argparse's ``type=``."""

from __future__ import annotations

import argparse

PRECISIONS = ("float32", "bfloat16", "int8", "auto")  # as dsm_ext names them


def precision(text: str) -> str:
    """The name of a precision."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(
            f"expected a precision of {', '.join(PRECISIONS)}, got {text!r}"
        )
    return text


def precisions(text: str) -> list[str]:
    """Names of precisions separated by commas."""
    return [precision(part.strip()) for part in text.split(",")]


def schedules(text: str) -> list[str]:
    """Split a text at spaces and semicolons. (Commas separate the arguments of a schedule.)"""
    names = text.replace(";", " ").split()
    if not names:
        raise argparse.ArgumentTypeError("expected a schedule, got none")
    return names


def integers(text: str) -> list[int]:
    """Positive integers separated by commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(
            f"expected positive integers separated by commas, got {text!r}"
        )
    return values


def image_size(text: str) -> tuple[int, int]:
    """A side in pixels, or HEIGHTxWIDTH."""
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a side in pixels, such as 384, or HEIGHTxWIDTH, got {text!r}"
        )
    return sides[0], sides[-1]
