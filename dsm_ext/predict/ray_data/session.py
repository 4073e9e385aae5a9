"""Connecting to Ray, keeping it quiet, and turning its errors into plain ones."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import current_thread
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

LOGGERS = ("ray", "ray.data")
TRIES = 5
OPTIONS: dict[str, Any] = {
    # One block is one task's whole result. A task that runs again, because a machine was lost,
    # replaces its block as a whole. Ray counts the blocks of a task and takes the missing ones from
    # the second run, so with several blocks a row could be lost if the second run cut them
    # elsewhere.
    "target_max_block_size": None,
    "max_errored_blocks": 0,  # no block may be dropped
    # A task may read a whole archive, and a cluster may wait long for machines.
    "execution_no_progress_timeout_s": -1,
    "enable_progress_bars": False,  # ``report`` is called instead
    "print_on_execution_start": False,
    # A store that is busy for a moment must not end the run.
    "retried_map_errors": list(ray.data.DataContext.get_current().retried_io_errors),
    "max_map_retries": TRIES - 1,
}
ADVICE = re.compile(r"\n?Failed to [^\n]* after \d+/\d+ attempts \(total backoff .*", re.DOTALL)


@contextmanager
def session(address: str) -> Iterator[None]:
    """Connect to Ray for a while, without its messages, and with the settings of ``OPTIONS``.

    If this process is connected already, the connection is used and stays.

    Args:
        address: ``local`` starts Ray on this machine; ``auto`` and ``host:port`` name a cluster.

    Raises:
        ValueError: an address of Ray Client, which runs the driver elsewhere.
        ConnectionError: no cluster answers.
    """
    if address.startswith("ray://"):
        raise ValueError(
            "dsm_ext.predict: expected local, auto or host:port as the address of Ray, got "
            f"{address}; Ray Client cannot be used: run the command on a machine of the cluster, "
            "for example by ray job submit"
        )
    connected = ray.is_initialized()
    if not connected:
        _connect(address)
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    context = ray.data.DataContext.get_current()
    options = {name: getattr(context, name) for name in OPTIONS if hasattr(context, name)}
    try:
        for name in LOGGERS:  # a failure is raised; Ray's log files still have everything
            logging.getLogger(name).setLevel(logging.CRITICAL)
        for name in options:
            setattr(context, name, OPTIONS[name])
        with redirect_stdout(_WithoutRay(sys.stdout)):
            yield
    finally:
        for name, value in options.items():
            setattr(context, name, value)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if not connected:
            ray.shutdown()


def _connect(address: str) -> None:
    # Ray's C++ code writes to stderr that an actor's arguments are in the object store. They are in
    # the driver's, and without the driver the run ends anyway.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        options["include_dashboard"] = False
    try:
        with _without_stderr():  # where the setting above is announced
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"dsm_ext.predict: expected a Ray cluster at {address}, got none that answers: "
            f"{_first_line(error)}"
        ) from error


class _WithoutRay(io.TextIOBase):
    """An output that drops what Ray's thread prints: it repeats errors, with pages of logs."""

    def __init__(self, output: Any) -> None:
        self._output = output

    def write(self, text: str) -> int:
        if self._output is None or current_thread().name == "ray_listen_error_messages":
            return len(text)
        return self._output.write(text)

    def flush(self) -> None:
        if self._output is not None:
            self._output.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what this process writes to stderr, from C++ too."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def plain_error(error: BaseException) -> BaseException:
    """What a task or a constructor raised, without the wrapping that Ray Data puts around it.

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
            return RuntimeError(f"dsm_ext.predict: Ray failed: {_first_line(inner)}")
        inner = cause
    return _without_advice(inner)


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


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
