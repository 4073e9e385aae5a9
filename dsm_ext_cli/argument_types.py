"""Conversions of the command line's arguments, for argparse's ``type=``."""

from __future__ import annotations

import argparse


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
