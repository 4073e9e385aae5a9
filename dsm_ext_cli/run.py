"""Running a command: its exit status, and its errors in one line on stderr."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from dsm_ext_cli.parser import FAILED, make_parser

INTERRUPTED, PIPE_CLOSED = 130, 141  # as shells report these signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status. 0: success. 1: some pictures could not be used. 2: bad input, which one
        line on stderr describes. 130: interrupted. 141: the reader of the output closed the pipe,
        as ``head`` does.
    """
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # else a closed pipe or full disk is reported at Python's exit
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        _drop_output()
        return _fail("dsm-ext", f"the output cannot be written: {error.strerror or error}")


def _run(arguments: Sequence[str] | None) -> int:
    prog = "dsm-ext"
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # names of files and classes may be in any script
                stream.reconfigure(errors="backslashreplace")
        args = make_parser().parse_args(arguments)
        prog = f"dsm-ext {args.command}"
        return importlib.import_module(f"dsm_ext.cli.{args.module}").run(args) or 0
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError) as error:
        return _fail(prog, _one_line(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _one_line(error: BaseException) -> str:
    """The message of an error without the C++ frames that torch adds."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = error.filename or "the output"
        return f"{place} cannot be written: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines()]
    for i, line in enumerate(lines):
        if line.startswith(("Exception raised from ", "C++ CapturedTraceback")):
            lines = lines[:i]
            break
    return " ".join(line for line in lines if line) or type(error).__name__


def _fail(prog: str, message: str) -> int:
    print(f"{prog}: error: {message}", file=sys.stderr)
    return FAILED


def _drop_output() -> None:
    """Redirect the output to nothing, because Python flushes it at exit and would fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
