"""Connecting to Ray, and the settings of Ray Data that a run needs."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from dsm_ext.predict.ray_data.errors import first_line
from dsm_ext.predict.ray_data.quiet import quiet, without_stderr

OPTIONS: dict[str, Any] = {
    # One block is one task's whole result. A task that runs again, because a machine was lost,
    # replaces its block as a whole. Ray counts the blocks of a task and takes the missing ones from
    # the second run, so with several blocks a row could be lost if the second run cut them
    # elsewhere.
    "target_max_block_size": None,
    "max_errored_blocks": 0,  # no block may be dropped
    # A task may read a whole archive, and a cluster may wait long for machines.
    "execution_no_progress_timeout_s": -1,
    "max_map_retries": 4,  # of the errors of ``retried_map_errors``
    "enable_progress_bars": False,  # ``report`` is called instead
    "print_on_execution_start": False,
}


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
    with quiet():
        connected = ray.is_initialized()
        if not connected:
            _connect(address)
        try:
            with _options():
                yield
        finally:
            if not connected:
                ray.shutdown()


@contextmanager
def _options() -> Iterator[None]:
    context = ray.data.DataContext.get_current()
    # A store that is busy for a moment must not end the run.
    wanted = {**OPTIONS, "retried_map_errors": list(context.retried_io_errors)}
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this program's handler of SIGTERM. Ray's prints a trace and aborts."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)


def _connect(address: str) -> None:
    # Ray's C++ code writes to stderr that an actor's arguments are in the object store. They are in
    # the driver's, and without the driver the run ends anyway.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        options["include_dashboard"] = False
    try:
        with _own_sigterm(), without_stderr():  # where the setting above is announced
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"dsm_ext.predict: expected a Ray cluster at {address}, got none that answers: "
            f"{first_line(error)}"
        ) from error
