"""How the study's tables write figures with their intervals."""

from __future__ import annotations

from typing import Any

from benchmarks.common import versions

Of = dict[str, float]  # an Interval, as JSON holds it


def interval(of: Of, digits: int = 2) -> str:
    """A figure and its interval, such as "0.52 (0.47 to 0.58)"."""
    mean, low, high = (f"{of[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def ratio(of: Of) -> str:
    """A ratio and its interval, and the word "noise" if the interval includes 1."""
    return interval(of) + (", noise" if of["low"] <= 1 <= of["high"] else "")


def difference(of: Of, digits: int = 1) -> str:
    """A difference and its interval, and the word "noise" if the interval includes 0."""
    signed = f"{of['mean']:+.{digits}f} ({of['low']:+.{digits}f} to {of['high']:+.{digits}f})"
    return signed + (", noise" if of["low"] <= 0 <= of["high"] else "")


def subject(result: dict[str, Any]) -> str:
    """The model, its pictures and the versions, for the line below a table."""
    return (
        f"`{result['model']}`, {result['pictures']} pictures; 95 % intervals, bootstrapped over "
        f"pictures; {versions(result, 'torch', 'timm')}."
    )
