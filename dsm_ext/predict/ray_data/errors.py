"""Turning the errors of Ray into plain ones."""

from __future__ import annotations

import re
from typing import Any

from ray.exceptions import ActorDiedError, RayError

ADVICE = re.compile(r"\n?Failed to [^\n]* after \d+/\d+ attempts \(total backoff .*", re.DOTALL)


def plain_error(error: BaseException) -> BaseException:
    """What a task or a constructor raised, without what Ray Data puts around it.

    A worker's death and other failures of Ray's own become a RuntimeError of one line.
    """
    inner: Any = error
    while isinstance(inner, RayError):
        cause = getattr(inner, "cause", None)
        if isinstance(inner, ActorDiedError) and inner.args:
            cause = inner.args[0]
        if cause is None:
            cause = inner.__cause__
        if not isinstance(cause, BaseException) or cause is inner:
            return RuntimeError(f"dsm_ext.predict: Ray failed: {first_line(inner)}")
        inner = cause
    return _without_advice(inner)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


def _without_advice(error: BaseException) -> BaseException:
    """An error without what Ray Data appends to its message or arguments."""
    cut = [ADVICE.sub("", text) if isinstance(text, str) else text for text in error.args]
    if cut == list(error.args):
        return error
    if len(cut) > 1 and cut[-1] == "":
        cut.pop()
    try:
        return type(error)(*cut)
    except Exception:
        return RuntimeError(ADVICE.sub("", str(error)))
