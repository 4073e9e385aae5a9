"""Tables and result files, and checks that the commands can write their output."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table. The first column is aligned to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def check_output_folder(path: Path, option: str) -> None:
    """Make a folder for the output and check that it can be written, before the work starts.

    Raises:
        ValueError: the folder cannot be made or written. The message names it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".dsm-ext.part"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise ValueError(f"expected {option} to be a folder, got the file {path}") from error
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written: {error.strerror}") from error


def check_output_file(path: Path | None, option: str) -> None:
    """Check that a file can be written and make its folder, before the work starts.

    Raises:
        ValueError: the file cannot be written. The message names it.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"expected {option} to be a file, got the folder {path}")
    if not path.exists() or path.is_file():  # pipes and devices need no folder and no probe
        if path.parent.is_file():
            raise ValueError(f"{option} {path} cannot be written: {path.parent} is a file")
        check_output_folder(path.parent, f"the folder of {option}:")


def check_output_picture(path: Path, option: str) -> None:
    """Check that Pillow can write a picture there, before the work starts.

    Raises:
        ValueError: the file cannot be written, or Pillow cannot write files with this ending.
    """
    from PIL import Image

    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"expected {option} to be a picture's name, such as x.png, got {path}")
    check_output_file(path, option)


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write a result as JSON. The file is replaced at once, so nobody reads a part of it.

    Args:
        path: None writes nothing.

    Raises:
        OSError: the file cannot be written. The message names it.
    """
    if path is None:
        return
    text = json.dumps(value, indent=2) + "\n"
    whole = not path.exists() or path.is_file()  # pipes and devices must not be replaced
    target = path.with_name(path.name + ".part") if whole else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if whole:
            target.replace(path)
    except OSError as error:
        if whole:
            with contextlib.suppress(OSError):
                target.unlink()
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
